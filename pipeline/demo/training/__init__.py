"""How the demo model is made: synthetic speech, training, conversion, evaluation. Needs torch, espeak-ng and flite.

    python -m pipeline.demo.training all

The product never runs this: the model is shipped. ``tokenizer.json`` is that of OpenAI's multilingual Whisper (MIT licence).
"""
