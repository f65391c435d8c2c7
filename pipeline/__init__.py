"""callscribe: real-time transcription of call-centre audio as a Kafka application."""

__version__ = "0.1.0"
