"""What all sections of a conf are made of: how values are checked, explained and kept secret."""
