"""Inputs that the workers read with Arrow, from a list of files."""
