"""Kinds of training recipes: everything that defines a run, in one frozen object."""
