"""Variants trained side by side for the same compute, and their tables."""
