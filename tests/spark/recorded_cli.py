"""`python -m tests.spark.recorded_cli FOLDER ARGUMENTS`: the command line, and FOLDER with what crossed to workers.

Each closure that the driver pickles, each broadcast, and every file that was seen in Spark's local
folders while the job ran. Spark removes the files when it ends, so they are copied as they come.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pyspark.core.broadcast import Broadcast
from pyspark.serializers import CloudPickleSerializer

from kvspark import cli

T = TypeVar("T")


def record_pickles(folder: Path) -> None:
    """Writes all that the driver pickles for workers from now on to files in `folder`."""
    numbers, dumps, dump = count(), CloudPickleSerializer.dumps, Broadcast.dump

    def recorded_dumps(self: CloudPickleSerializer, obj: Any) -> bytes:
        made: bytes = dumps(self, obj)
        (folder / f"closure-{next(numbers)}").write_bytes(made)
        return made

    def recorded_dump(self: Broadcast[T], value: T, f: BinaryIO) -> None:
        dump(self, value, f)
        (folder / f"broadcast-{next(numbers)}").write_bytes(Path(f.name).read_bytes())

    CloudPickleSerializer.dumps = recorded_dumps  # type: ignore[method-assign]
    Broadcast.dump = recorded_dump  # type: ignore[method-assign]


@contextmanager
def local_files_recorded(local: Path, folder: Path) -> Iterator[None]:
    """Copies the files below `local`, looked at again and again, to `folder`."""
    over, seen = threading.Event(), set[tuple[int, int, int]]()

    def look() -> None:
        while not over.wait(0.05):
            for path in local.rglob("*"):
                with suppress(OSError):  # gone again
                    stat = path.stat()
                    state = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
                    if path.is_file() and state not in seen:
                        content = path.read_bytes()
                        seen.add(state)
                        (folder / f"local-{len(seen)}-{path.name}").write_bytes(content)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    yield
    over.set()
    looking.join(10)


if __name__ == "__main__":
    crossed = Path(sys.argv[1])
    record_pickles(crossed)
    with local_files_recorded(Path(os.environ["SPARK_LOCAL_DIRS"]), crossed):
        code = cli.run(sys.argv[2:])
    sys.exit(code)
