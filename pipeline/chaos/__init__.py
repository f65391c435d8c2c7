"""Faults on a seeded schedule against a system of its own, and what they changed in the transcripts: nothing, it is hoped."""
