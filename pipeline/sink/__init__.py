"""Sink: segments go to storage, and from there to the formats people read."""
