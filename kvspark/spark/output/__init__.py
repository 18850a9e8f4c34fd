"""The output: staged, checked, published in one step, kept for a rollback."""
