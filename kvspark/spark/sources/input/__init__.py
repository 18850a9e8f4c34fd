"""What a job asks of its input, whatever kind of source that is."""
