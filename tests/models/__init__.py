"""The networks and what they are built of."""
