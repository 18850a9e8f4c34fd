"""The files of a model as artifacts of the session, as Spark Connect has no broadcasts."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

from pyspark import SparkFiles
from pyspark.sql import SparkSession
from typing_extensions import Buffer

from kvspark.errors import BundleError
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.bundle.files import Listed
from kvspark.spark.weights.by_broadcast import mapped
from kvspark.spark.weights.host_files import HostFiles
from kvspark.spark.weights.transport import Shipped


@final
@dataclass(frozen=True, slots=True)
class ByArtifact(Shipped):
    """Spark keeps the artifacts as long as the session and brings them to each executor once."""

    manifest: bytes

    def path(self, name: str, listed: Listed, host: HostFiles) -> Path:
        """As `Shipped.path`."""
        saved = listed.files[name]
        # Each executor has an artifact of its own, and a host may have several executors.
        return host.path(saved["sha256"], saved["size_bytes"], lambda: _content(saved["sha256"]))


def by_artifact(spark: SparkSession, bundle: Bundle) -> ByArtifact:
    """`bundle`, whose files are artifacts of the session under their SHA-256.

    A name stands for one content, so that a session may be given the same file again.

    Raises:
        BundleError: a file is missing or damaged.
    """
    folder = Path(tempfile.mkdtemp(prefix="kvspark-artifacts-"))
    # A classic session sends its files from where they are, and a later task may be the first to ask.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for link in _links(folder, bundle):
        spark.addArtifacts(link, file=True)
    return ByArtifact(bundle.manifest)


def _links(folder: Path, bundle: Bundle) -> Iterator[str]:
    sent = set[str]()
    for name, saved in bundle.files.items():
        if saved["sha256"] in sent:
            continue
        sent.add(saved["sha256"])
        yield str(_linked(bundle.path(name), folder / saved["sha256"]))


def _linked(path: Path, link: Path) -> Path:
    # Spark takes the name of what a symbolic link points to.
    try:
        link.hardlink_to(path)
    except OSError:  # another file system, or somebody else's file
        shutil.copyfile(path, link)
    return link


def _content(sha256: str) -> Buffer:
    path = Path(SparkFiles.get(sha256))
    try:
        content: Buffer = mapped(path)
    except OSError as error:
        raise BundleError(
            f"{path}, an artifact of this session, cannot be read: {error.strerror}; make a new "
            "session, or call kvspark.score again in this one"
        ) from error
    return content
