"""Networks of other families and what they are trained on, for comparison with ours."""
