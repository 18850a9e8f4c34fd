"""Stores on servers that speak RESP: one server, one behind sentinels, or a cluster of them."""
