"""What every command stands on: the group, and what a signal does."""
