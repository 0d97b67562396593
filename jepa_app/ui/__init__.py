"""The page in the browser: one folder a tab, each with its layout, then its wiring; no file here knows torch."""
