"""Whether a port that does not answer in TLS answers without it.

A Redis server without TLS takes the beginning of a TLS connection for a command that is not over
yet, and waits: a wrong port looks like one that hangs, and no later try can go better.
"""

from __future__ import annotations

import contextlib
import socket

from kvspark.store.endpoint import Endpoint

TIMEOUT_S = 0.5
"""What the question may take, once, when a run starts."""


def answers_plainly(endpoint: Endpoint) -> bool:
    """True if a Redis server without TLS is there; nothing but PING is said to it."""
    with contextlib.suppress(OSError):
        address = (endpoint.host, endpoint.port)
        with socket.create_connection(address, timeout=TIMEOUT_S) as link:
            link.sendall(b"PING\r\n")
            return link.recv(16).startswith((b"+PONG", b"-NOAUTH"))
    return False
