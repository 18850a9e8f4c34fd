"""From a row to its digest, and from a digest to the key of an entry."""
