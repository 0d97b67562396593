"""Many pictures at once, in every home of the engine."""
