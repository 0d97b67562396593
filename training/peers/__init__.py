"""Networks of other families and what they are trained on, to compare ours with."""
