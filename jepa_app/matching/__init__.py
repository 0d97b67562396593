"""How well pictures and words match: the energy of a pair, its maps, tables of many pairs, and the probability."""
