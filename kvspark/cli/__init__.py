"""The `kvspark` command: a file for each of its commands, and `run`."""

from __future__ import annotations

from kvspark.cli.app import main, run

__all__ = ["main", "run"]
