"""How the shipped segmentation model is made: synthetic voices, simulated conversations, training, evaluation.

    python -m pipeline.diarize.training all

Needs torch, espeak-ng, festival and flite. The product never runs this: the model is shipped.
"""
