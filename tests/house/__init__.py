"""The project itself: its documents, floors, installation and benchmarks."""
