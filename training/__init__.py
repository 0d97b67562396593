"""Training: captioned pictures in, weights out; imports `jepa_app`, never the user interface."""
