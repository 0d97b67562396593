"""Captioned pictures: folders of them, what can be said of each, the split, and batches as a function of the step."""
