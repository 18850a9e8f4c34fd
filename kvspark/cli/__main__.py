"""`python -m kvspark.cli`."""

from __future__ import annotations

from kvspark.cli.app import main

if __name__ == "__main__":
    main()
