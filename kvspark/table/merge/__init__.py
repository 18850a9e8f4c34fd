"""Rows that take the place of those with the same id, in tables that list their files."""
