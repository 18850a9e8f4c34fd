"""Where a server is and how it is entered: a plain value, without the library that connects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Endpoint:
    """A Redis or Valkey server, over TCP, TLS or a unix socket."""

    host: str = ""
    port: int = 6379
    socket_path: str = ""
    """The path of a unix socket; where it is given, host and port mean nothing."""
    db: int = 0
    is_tls: bool = False
    """Over TLS the certificate and the host's name in it are always checked."""
    tls_ca_file: str | None = None
    """The certificates (PEM) to trust; None for the system's."""
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """The address as messages name it, without anything secret."""
        if self.socket_path:
            return f"unix://{self.socket_path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.is_tls else 'redis'}://{host}:{self.port}"
