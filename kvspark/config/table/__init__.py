"""The tables of a job: the one that is read."""
