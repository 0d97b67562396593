"""The trainer, from corpora to weights."""
