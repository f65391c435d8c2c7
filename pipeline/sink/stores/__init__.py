"""Transcript stores."""
