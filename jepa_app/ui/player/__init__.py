"""The player of a run: stage, timeline, views, steering and export."""
