"""Files whose dates and times count old days otherwise: only Spark reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvspark.errors import DataError
from kvspark.spark.tables.footers import Footer

_TIMES = re.compile(r"INT96|Date|Timestamp")


def refuse_old_calendar(footers: Sequence[Footer]) -> None:
    """Does nothing if Arrow reads the days in the files of `footers` as Spark does.

    Raises:
        DataError: it does not; names the file.
    """
    for footer in footers:
        if footer.has_old_calendar and _TIMES.search(" ".join(footer.columns.values())):
            raise DataError(
                f"input file {footer.name}: a Spark before 3.1 wrote its dates or times, or one that was told to write them by "
                "the old calendar, which only Spark reads; nothing was written, write the file again"
            )
