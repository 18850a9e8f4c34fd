"""The files of a quarantine on their way into an output folder."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from kvspark.errors import ValidationError
from kvspark.spark.badrows.quarantine import QUARANTINE_FOLDER
from kvspark.spark.scoring.bad_rows import Aside
from kvspark.spark.tables.footers import read_footers


def collected(aside: Aside | None, folder: Path, staged: Path) -> int:
    """How many rows the output in `staged` leaves out, once their files are moved from `folder` into it.

    Raises:
        ValidationError: they are not all there.
    """
    if aside is None:
        return 0
    output = staged / QUARANTINE_FOLDER
    output.mkdir(parents=True)
    parts = []
    for partition, (name, _) in sorted(aside.files.items()):
        parts.append(output / f"part-{partition:05d}.parquet")
        try:
            (folder / name).rename(parts[-1])
        except OSError as exc:
            raise ValidationError(
                f"nothing was published: the bad rows of partition {partition} are not in {folder} "
                f"({exc.strerror}); tasks and driver must share the output's file system"
            ) from None
    if not parts:  # a reader finds a table also after a night without bad rows
        pq.write_table(aside.empty, output / "part-00000.parquet")
    return sum(footer.rows for footer in read_footers(parts))
