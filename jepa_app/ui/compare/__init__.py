"""The Compare tab: a grid of pictures over two settings."""
