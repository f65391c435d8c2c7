"""Who speaks when, measured: mono recordings with references, the vad and diarize stages, and the errors of their turns."""
