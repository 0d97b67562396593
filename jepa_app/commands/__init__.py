"""The commands of the command line: arguments in, files and reports out."""
