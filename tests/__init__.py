"""Tests, and the benchmarks below `tests.benchmarks`."""
