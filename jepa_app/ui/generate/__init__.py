"""The Generate tab: the prompt, the runs that it starts, and ways to bring earlier runs back."""
