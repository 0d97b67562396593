"""Weights on the Hugging Face hub: the folder that is pushed, with the code that opens it and a model card."""
