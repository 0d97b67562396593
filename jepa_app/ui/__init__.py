"""The page in the browser: one folder per tab, each with its layout and its wiring; no file here uses torch."""
