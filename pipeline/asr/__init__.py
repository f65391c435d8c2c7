"""Streaming speech recognition: utterances become committed words and a tentative tail."""
