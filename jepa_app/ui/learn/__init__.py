"""The Learn tab: one run opened up, step by step."""
