"""Studies, each one question about trained weights or about variants of a recipe; every study is a command."""
