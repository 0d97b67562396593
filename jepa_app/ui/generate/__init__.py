"""The Generate tab: the prompt, the runs that it starts, and what brings earlier ones back."""
