"""Making what tasks wrote the table that readers find, in one step."""
