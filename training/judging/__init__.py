"""How good pictures and matches are, by a network that is not ours and against known truths."""
