"""What our own networks are trained on, with the moving average, cached text features and calibration."""
