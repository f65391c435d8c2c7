"""Voice activity detection: call audio becomes utterances of speech, silence becomes watermarks."""
