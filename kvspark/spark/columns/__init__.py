"""Which columns and expressions are which input, and which output becomes which column."""
