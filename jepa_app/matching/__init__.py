"""How well pictures and words match: the energy of a pair, maps of it, tables of many, and the probability."""
