"""Benchmarks: what the product costs, measured against the published way in the same process."""
