"""What is read, written, fetched and pushed."""
