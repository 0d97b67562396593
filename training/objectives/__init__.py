"""What our own networks are trained on, with the moving average, kept text features and calibration."""
