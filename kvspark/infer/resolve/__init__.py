"""The one rule: look up, compute what is missing, insert, scatter back."""
