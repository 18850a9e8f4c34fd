"""Rows as columns: from Arrow to canonical bytes and arguments, and back."""
