"""What is shipped, as somebody has it: a project's folder, and the wheel."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from kvspark.demo.classifier import MAX_LENGTH, Trunk, encoder_folder, load_trunk
from kvspark.infer.model import Model
from kvspark.model.features.text import TextFeatures
from tests import worker_daemon
from tests.glosses import short_glosses
from tests.redis_server import PATIENT_MS

ROOT = Path(__file__).parents[2]
PATIENCE = {"KVSPARK__CACHE__TIMEOUT_MS": str(PATIENT_MS)}
"""For jobs on a busy machine, which is no fault of the cache's."""

OWN = Path(sys.executable).parent
ROWS = 240


class Labelled(torch.nn.Module):
    """MiniLM and a head of 26 classes that nobody has trained."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk
        torch.manual_seed(7)
        self.head = torch.nn.Linear(384, 26)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {"label": self.head(self.trunk(input_ids, attention_mask)).argmax(dim=1)}


def inline(page: str, section: str) -> str:
    """The text of a section of `page` without its blocks."""
    return re.sub(r"^```.*?^```", "", _section(page, section), flags=re.MULTILINE | re.DOTALL)


def blocks(page: str, section: str, language: str) -> list[str]:
    """The blocks of `language` in a section of `page`."""
    found = _section(page, section)
    return re.findall(rf"^```{language}\n(.*?)^```", found, re.MULTILINE | re.DOTALL)


def _section(page: str, name: str) -> str:
    text = (ROOT / page).read_text(encoding="utf-8")
    (body,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return str(body)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` builds."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("kvspark-*.whl")
    return built


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The folder that conf/ speaks of: the shipped conf as it stands, glosses, and MiniLM with a head."""
    home = tmp_path_factory.mktemp("project")
    for name in ("conf", "jobs"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    (home / "dist").mkdir()
    shutil.copy(wheel, home / "dist/kvspark.zip")
    (home / "data").mkdir()
    pq.write_table(short_glosses(ROWS), home / "data/glosses")
    features = TextFeatures.from_pretrained(encoder_folder(), max_length=MAX_LENGTH)
    model = Model.from_torch(Labelled(load_trunk()).eval(), features=features, cuts=["trunk"])
    model.save(home / "models/glosses")
    (home / ".venv").symlink_to(sys.prefix)
    return home


def bare_environment(programs: Path = OWN, **more: str) -> dict[str, str]:
    """What a login has: no PYTHONPATH, no PYSPARK_PYTHON, the environment's programs first on PATH."""
    kept = ("HOME", "LANG", "TMPDIR", "JAVA_HOME", "SPARK_SUBMIT_OPTS", "HF_HUB_OFFLINE")
    own = {name: os.environ[name] for name in kept if name in os.environ}
    # What is tested has nothing of this repository.
    own["SPARK_SUBMIT_OPTS"] = own["SPARK_SUBMIT_OPTS"].replace(worker_daemon.OPTION, "")
    path = os.pathsep.join([str(programs), str(OWN), os.environ["PATH"]])
    return {**own, **PATIENCE, "PATH": path, **more}


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """The programs of another environment, in which pip has installed the wheel.

    It has kvspark from the wheel alone, and all other packages from this environment, through a .pth
    file: what makes kvspark editable there is not followed.
    """
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (own,) = folder.glob("lib/python*/site-packages")
    (own / "packages.pth").write_text("\n".join(site.getsitepackages()))
    python = folder / "bin/python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*command, "--no-deps", "--no-index", str(wheel)], check=True)
    return folder / "bin"
