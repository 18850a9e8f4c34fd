"""The version of kvspark, for those below the public names."""

from __future__ import annotations

__version__ = "0.1.0"
