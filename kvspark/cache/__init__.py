"""What is remembered: entries of tensors in a shared store, and what happens when it is not there."""
