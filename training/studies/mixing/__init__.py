"""Studies of sampling with sums of predictions: of a weaker network, or under another text."""
