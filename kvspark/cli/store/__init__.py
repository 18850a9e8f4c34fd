"""Commands on a store: its entries, its keys, its health."""
