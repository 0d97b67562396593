"""The studio's page: one file per tab, each with its layout, then its wiring; no file here knows torch."""
