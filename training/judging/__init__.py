"""How good pictures and matches are, by a network that is not ours and by known truths."""
