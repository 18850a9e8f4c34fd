"""What a plan is made from, measured: stages, store, rows."""
