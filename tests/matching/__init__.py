"""How well pictures and words match."""
