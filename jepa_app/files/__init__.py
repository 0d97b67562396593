"""Pictures, archives and tables from outside: the one door for each, where kind, size and damage are checked."""
