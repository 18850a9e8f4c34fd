"""The environments of contestants that need packages of their own: `build/bench/envs/NAME`, kept between runs.

Each sees the packages of `.venv` behind its own, so that all compute with one torch, and none installs
another.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import final

from tests.bench.beside.failure import first_line

ROOT = Path(__file__).parents[3]
ENVIRONMENTS = ROOT / "build" / "bench" / "envs"

PACKAGES: dict[str, tuple[str, ...]] = {
    "daft": ("daft==0.7.26",),
    "datasets": ("datasets==5.2.0",),
    "distribatch": ("distribatch==0.1.0a1",),
    "langchain": (
        "langchain-classic==1.0.8",
        "langchain-community==0.4.2",
        "langchain-huggingface==1.2.3",
    ),
    "ray": ("ray[data]==2.60.0",),
}
SHARED = ("torch", "pyspark", "numpy", "pandas", "transformers", "sentence-transformers")
"""What an environment must not have another version of."""


@final
class NotInstalledError(Exception):
    """An environment could not be made; its text is the first line that says why."""


def python_of(environment: str | None) -> str:
    """The Python of an environment, which is made if it is not there; None is the running one.

    Raises:
        NotInstalledError: pip or venv failed.
    """
    if environment is None:
        return sys.executable
    folder = ENVIRONMENTS / environment
    python = folder / "bin" / "python"
    stamp = folder / "installed"
    wanted = "\n".join((sys.executable, *PACKAGES[environment], *_pins()))
    if not stamp.exists() or stamp.read_text() != wanted:
        _done([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)])
        _show_project(python)
        limits = folder / "constraints.txt"
        limits.write_text("\n".join(_pins()) + "\n")
        pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
        _done([*pip, "--quiet", "--constraint", str(limits), *PACKAGES[environment]])
        stamp.write_text(wanted)
    return str(python)


def _show_project(python: Path) -> None:
    """Lets an environment see the packages of this one, behind its own."""
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([str(python), "-c", asked], check=True, capture_output=True, text=True)
    Path(own.stdout.strip(), "project.pth").write_text(sysconfig.get_path("purelib") + "\n")


def _pins() -> list[str]:
    lines = (ROOT / "conf" / "constraints.txt").read_text().splitlines()
    pins = [line.partition(";")[0].strip() for line in lines if not line.startswith("#")]
    return [pin for pin in pins if pin.partition("==")[0] in SHARED]


def _done(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstalledError(first_line(done.stderr))
