"""What a job reads: the input as it is found before there is a session, and its rows."""
