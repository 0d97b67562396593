"""The emoji corpus: its packages, which drawing shows which concept, rendering and parts of it."""
