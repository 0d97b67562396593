"""Pictures, archives and tables from outside: one entrance for each, where format, size and integrity are checked."""
