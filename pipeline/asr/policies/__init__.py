"""Commit policies: when is a hypothesis stable enough to publish."""
