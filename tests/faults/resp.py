"""Where one frame of Redis' protocol ends: enough to count commands and to hurt single replies."""

from __future__ import annotations

_LINES = frozenset(b"+-:_#,(")
_BULKS = frozenset(b"$=!")
_AGGREGATES = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2}


def frame_end(buffer: bytes | bytearray, start: int = 0) -> int | None:
    """The end of the frame, whole with all that is in it, that begins at `start`; None if cut off."""
    left, at = 1, start
    while left:
        line_end = buffer.find(b"\r\n", at)
        if line_end < 0:
            return None
        kind = buffer[at]
        if kind in _BULKS:
            size = int(buffer[at + 1 : line_end])
            at = line_end + 2 + (size + 2 if size >= 0 else 0)
            if at > len(buffer):
                return None
        elif kind in _AGGREGATES:
            left += max(0, int(buffer[at + 1 : line_end])) * _AGGREGATES[kind]
            at = line_end + 2
        elif kind in _LINES:
            at = line_end + 2
        else:
            raise ValueError(f"no frame begins with {bytes(buffer[at : at + 1])!r}")
        left -= 1
    return at


def frames(buffer: bytearray) -> list[bytes]:
    """The whole frames at the front of `buffer`, which are taken out of it."""
    found: list[bytes] = []
    at = 0
    while at < len(buffer):
        end = frame_end(buffer, at)
        if end is None:
            break
        found.append(bytes(buffer[at:end]))
        at = end
    del buffer[:at]
    return found


def command_name(frame: bytes) -> str:
    """The first word of a command, in capitals: "MGET"."""
    return frame.split(b"\r\n", 3)[2].decode().upper()


def items(frame: bytes) -> list[bytes]:
    """The frames inside of an array's frame."""
    buffer = bytearray(frame[frame.index(b"\r\n") + 2 :])
    return frames(buffer)
