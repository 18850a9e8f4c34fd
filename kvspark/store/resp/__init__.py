"""One connection that speaks RESP: commands as bytes, and replies that become values."""
