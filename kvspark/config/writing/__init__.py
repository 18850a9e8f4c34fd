"""Conf files that are written: a copy of a person's file with a few values changed."""
