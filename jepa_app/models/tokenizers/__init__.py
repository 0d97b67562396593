"""Pictures to tokens and back: components, the decoder that sees the whole picture, and what joins them."""
