"""A real NameNode and DataNode for tests: the jars of Hadoop 2.7 that the source distribution of pyspark 2.4 has.

`.ci/setup` downloads it and calls `python -m tests.hdfs_jars SDIST FOLDER`.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
from pathlib import Path

FOLDER = Path(sys.prefix) / "hdfs"

NEEDED = """
apache-log4j-extras commons-cli commons-codec commons-collections commons-configuration commons-io commons-lang-2
commons-logging guava-14 hadoop-annotations hadoop-auth hadoop-common hadoop-hdfs htrace-core jackson-core-asl
jackson-mapper-asl javax.servlet-api javax.ws.rs-api jcl-over-slf4j jetty-6 jetty-util log4j-1 netty-all protobuf-java slf4j-api
slf4j-log4j12 xercesImpl
""".split()
"""What the two load, and their tool of administration."""


def extract(sdist: Path, folder: Path) -> None:
    """Puts the jars into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(sdist) as archive:
        for member in archive:
            name = Path(member.name).name
            if "/deps/jars/" in member.name and name.startswith(tuple(NEEDED)):
                source = archive.extractfile(member)
                assert source is not None
                with source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)
    found = {jar.name for jar in folder.glob("*.jar")}
    missing = [name for name in NEEDED if not any(jar.startswith(name) for jar in found)]
    if missing:
        raise SystemExit(f"{sdist} has no {', '.join(missing)}")


if __name__ == "__main__":
    extract(Path(sys.argv[1]), Path(sys.argv[2]))
