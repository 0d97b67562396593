"""The decoder that sees the whole picture: its loss, its critic, and tokens as a generator makes them."""
