"""A real HDFS for tests, of one NameNode and one DataNode: `with running_hdfs() as server: ... server.url`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from tests.hdfs_jars import FOLDER
from tests.hdfs_proxy import HdfsProxy, hdfs_proxy
from tests.redis_server import free_port

START_S = 120.0
_JAVA = [
    "java",
    "-Xmx256m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "--add-opens=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
]
_HADOOP = "org.apache.hadoop.hdfs"
_LOG = """log4j.rootLogger=WARN,console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d %p %c: %m%n
"""


@final
@dataclass(slots=True)
class HdfsServer:
    """A running HDFS, and how to hurt it."""

    folder: Path
    port: int
    """Of the NameNode itself."""
    proxy: HdfsProxy
    """Where the clients of tests go."""
    namenode: subprocess.Popen[bytes]
    datanode: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """The root folder."""
        return f"hdfs://127.0.0.1:{self.proxy.port}"

    def admin(self, *arguments: str) -> None:
        """What `hdfs dfsadmin` does."""
        subprocess.run(
            [*_command(self.folder), f"{_HADOOP}.tools.DFSAdmin", *arguments],
            check=True,
            capture_output=True,
            timeout=60,
        )

    def kill(self) -> None:
        """Kills the NameNode."""
        self.namenode.send_signal(signal.SIGKILL)
        self.namenode.wait()

    def start(self) -> None:
        """Starts the NameNode again, and returns when it takes writes."""
        self.namenode = _started(self.folder, "namenode.NameNode")
        _wait(self.port, self.folder, self.namenode)


@contextmanager
def running_hdfs() -> Iterator[HdfsServer]:
    """An empty file system, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="kvspark-hdfs-"))
    port = free_port()
    _configure(folder, port)
    server = f"{_HADOOP}.server.namenode.NameNode"
    formatted = [*_command(folder), server, "-format", "-force", "-nonInteractive"]
    subprocess.run(formatted, check=True, capture_output=True, timeout=START_S)
    namenode = _started(folder, "namenode.NameNode")
    datanode = _started(folder, "datanode.DataNode")
    with hdfs_proxy(port) as proxy:
        running = HdfsServer(folder, port, proxy, namenode, datanode)
        try:
            _wait(port, folder, namenode)
            yield running
        finally:
            for process in (running.namenode, datanode):
                process.send_signal(signal.SIGKILL)
                process.wait()
            shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path, port: int) -> None:
    conf = folder / "conf"
    for name in ("conf/webapps/hdfs", "conf/webapps/datanode"):  # their pages are in no jar
        (folder / name).mkdir(parents=True)
    (conf / "log4j.properties").write_text(_LOG)
    (conf / "core-site.xml").write_text(_xml({"fs.defaultFS": f"hdfs://127.0.0.1:{port}"}))
    hdfs = {
        "dfs.namenode.name.dir": f"file://{folder}/name",
        "dfs.datanode.data.dir": f"file://{folder}/data",
        "dfs.namenode.http-address": "127.0.0.1:0",
        "dfs.datanode.address": "127.0.0.1:0",
        "dfs.datanode.http.address": "127.0.0.1:0",
        "dfs.datanode.ipc.address": "127.0.0.1:0",
        "dfs.webhdfs.enabled": False,
        "dfs.replication": 1,
        "dfs.heartbeat.interval": 1,
        "dfs.namenode.safemode.extension": 0,
    }
    (conf / "hdfs-site.xml").write_text(_xml(hdfs))


def _xml(values: Mapping[str, Any]) -> str:
    entries = [
        f"<property><name>{n}</name><value>{v}</value></property>" for n, v in values.items()
    ]
    return f"<configuration>{''.join(entries)}</configuration>".replace("False", "false")


def _command(folder: Path) -> list[str]:
    if not list(FOLDER.glob("hadoop-hdfs-*.jar")):
        raise RuntimeError(f"{FOLDER} has no jars of Hadoop; run make setup")
    return [*_JAVA, "-cp", f"{folder / 'conf'}:{FOLDER}/*"]


def _started(folder: Path, server: str) -> subprocess.Popen[bytes]:
    with (folder / f"{server}.log").open("ab") as log:
        return subprocess.Popen(
            # The kernel kills it with its parent, however that dies.
            ["setpriv", "--pdeathsig", "KILL", *_command(folder), f"{_HADOOP}.server.{server}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait(port: int, folder: Path, namenode: subprocess.Popen[bytes]) -> None:
    """Until a file can be written."""
    from hdfs_native import Client, WriteOptions

    ends = time.monotonic() + START_S
    said: Exception | None = None
    while time.monotonic() < ends and namenode.poll() is None:
        client = Client(f"hdfs://127.0.0.1:{port}", {"dfs.client.failover.max.attempts": "0"})
        try:
            with client.create("/started", WriteOptions(overwrite=True)) as file:
                file.write(b"1")
            client.delete("/started")
            return
        except (OSError, RuntimeError) as exc:
            said = exc
            time.sleep(0.2)
    log = (folder / "namenode.NameNode.log").read_text(errors="replace")[-2000:]
    raise RuntimeError(f"no HDFS: {said}\n{log}")


def main() -> None:
    """Runs until it is stopped, for tries by hand."""
    with running_hdfs() as server:
        print(
            f"{server.url}, without the proxy port {server.port}; process {os.getpid()}", flush=True
        )
        signal.pause()


if __name__ == "__main__":
    main()
