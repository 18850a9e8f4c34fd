"""Exactness and speed on a GPU: `python -m tests.gpu`, with torch and kvspark's own dependencies alone.

For each model and dtype: whether a row has its bits in any company and place, with any pattern of hits, with a
cache and without; how far rows are from plain eager torch; and rows/s beside it in calls of the same size.
Exit code 1 if a row has other bits.
"""

from __future__ import annotations

import sys

import torch
from rich.console import Console
from rich.table import Table

from tests.gpu.checks import CASES, DTYPES, distance, exact, rows_per_s


def main() -> int:
    """Prints a table; returns the exit code."""
    if not torch.cuda.is_available():
        print(f"torch {torch.__version__} finds no GPU here")
        return 1
    table = Table(title=f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}")
    for heading in ("model", "dtype", "bits", "from eager", "rows/s", "eager rows/s", "ratio"):
        table.add_column(heading)
    is_exact = True
    for name, case in CASES.items():
        for dtype in DTYPES:
            trouble = exact(case, dtype, "cuda")
            ours, eager = rows_per_s(case, dtype, "cuda")
            is_exact &= not trouble
            far = f"{distance(case, dtype, 'cuda'):.1e}"
            speed = (f"{ours:,.0f}", f"{eager:,.0f}", f"{ours / eager:.2f}")
            table.add_row(name, dtype, ", ".join(trouble) or "equal", far, *speed)
    Console().print(table)
    return 0 if is_exact else 1


if __name__ == "__main__":
    sys.exit(main())
