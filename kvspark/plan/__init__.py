"""Which stages are looked up and stored."""
