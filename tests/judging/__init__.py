"""What measures the models."""
