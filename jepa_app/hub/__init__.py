"""Weights on the Hugging Face hub: the folder that is pushed, with the code that opens it and a model card.

`opening.py` and `pipeline.py` are copied beside the weights, where diffusers and transformers look for them.
"""
