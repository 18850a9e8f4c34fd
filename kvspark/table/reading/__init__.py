"""Reading what runs have published."""
