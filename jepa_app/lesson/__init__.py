"""One run explained for the Learn tab: what the network read, predicted and denoised at every step."""
