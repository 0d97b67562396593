"""The studio as a process, for browsers, programs and agents."""
