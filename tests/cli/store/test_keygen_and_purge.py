"""`kvspark keygen` and `kvspark purge`, as a person calls them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
import yaml

from kvspark.cache.cache import Cache
from kvspark.cache.namespace import purge
from kvspark.cache.namespace.namespace_stats import Use
from kvspark.cli import run
from kvspark.config.reading.load import load_job_config
from kvspark.infer.model import Model
from kvspark.spec import MicroBatch
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis
from tests.small_models import Mlp, seeded

pytestmark = pytest.mark.redis

ROWS = [[float(row + column) for column in range(8)] for row in range(50)]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisAddress]:
    with running_redis() as running:
        yield running


@pytest.fixture
def conf(tmp_path: Path, server: RedisAddress, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A conf whose cache knows all of ROWS."""
    server.ask("FLUSHALL")
    monkeypatch.setattr(purge, "SETTLE_S", 0.0)
    key_file = tmp_path / "keys"
    assert run(["keygen", str(key_file)]) == 0
    model = Model.from_torch(seeded(Mlp()), {"x": torch.zeros(4, 8)}, cuts=["trunk"])
    model.save(tmp_path / "model")
    conf = {
        "run": {"name": "n"},
        "input": {"paths": ["in"]},
        "model": {"path": str(tmp_path / "model")},
        "output": {"path": "out"},
        "cache": {"url": server.url, "sealing": {"key_file": str(key_file)}, "timeout_ms": 5_000},
    }
    (tmp_path / "score.yaml").write_text(yaml.safe_dump(conf))
    with_cache(tmp_path, server)
    return tmp_path / "score.yaml"


def with_cache(folder: Path, server: RedisAddress, shapes: MicroBatch | None = None) -> int:
    """Scores ROWS; the entries that were written."""
    before = server.count("set")
    cache = Cache.connect(
        server.url, namespace="n", key_file=str(folder / "keys"), timeout_ms=5_000
    )
    model = Model.load(folder / "model")
    model = model if shapes is None else model.with_micro_batch(shapes)
    model.predict({"x": ROWS}, cache=cache)
    cache.close()
    return server.count("set") - before


def test_a_row_is_erased_and_computed_but_not_stored_again(conf, server, capsys, tmp_path):
    assert with_cache(tmp_path, server) == 0
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps({"x": ROWS[4]}) + "\n" + json.dumps({"x": ROWS[9]}) + "\n")
    assert run(["purge", str(conf), "--input", str(rows)]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert "a bit more than a minute" in first
    assert last == "removed 4 entries; looked again: none is left"
    assert with_cache(tmp_path, server) == 0


def test_a_model_and_what_is_old_are_removed(conf, server, capsys, tmp_path):
    assert run(["purge", str(conf), "--older-than", "1d"]) == 0
    assert "removed 0 entries" in capsys.readouterr().out
    assert run(["purge", str(conf), "--model", str(tmp_path / "model")]) == 0
    assert "removed 100 entries" in capsys.readouterr().out
    assert with_cache(tmp_path, server) == 100


def test_a_model_is_removed_in_the_shapes_in_which_the_conf_calls_it(
    conf, server, capsys, tmp_path
):
    with_cache(tmp_path, server, MicroBatch(rows=64))
    options = ["--set", "model.micro_batch.rows=64", "--model", str(tmp_path / "model")]
    assert run(["purge", str(conf), *options]) == 0
    assert "removed 100 entries" in capsys.readouterr().out
    assert with_cache(tmp_path, server, MicroBatch(rows=64)) == 100


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "takes one of"),
        (["--older-than", "soon"], "30d"),
        (["--older-than", "1d", "--model", "m"], "takes one of"),
        (["--input", "nowhere.json"], "JSON lines"),
    ],
)
def test_what_purge_cannot_do_is_one_line(conf, capsys, options, said):
    assert run(["purge", str(conf), *options]) == 64
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_subjects_that_the_conf_does_not_know_are_refused_before_anything_is_announced(
    conf, capsys
):
    assert run(["purge", str(conf), "--subject", "ids.txt"]) == 64
    said = capsys.readouterr()
    assert said.out == ""
    assert "binds no entries to subjects; nothing was removed" in said.err


def test_a_row_that_is_not_the_model_s_is_refused_without_showing_it(conf, capsys, tmp_path):
    rows = tmp_path / "rows.json"
    for content, code in (
        ('{"x": "SENTINEL"}', 65),
        ('{"y": [1]}', 64),
        ("SENTINEL", 64),
        ('{"x": [1.0, 2.0]}', 65),
    ):
        rows.write_text(content)
        assert run(["purge", str(conf), "--input", str(rows)]) == code
        told = capsys.readouterr().err
        assert "SENTINEL" not in told
        assert told.count("\n") == 1


def test_what_a_purge_will_free_is_said_before(conf, server, capsys, tmp_path):
    cache = Cache.connect(
        server.url, namespace="n", key_file=str(tmp_path / "keys"), timeout_ms=PATIENT_MS
    )
    stages = Model.load(tmp_path / "model").stages
    uses: dict[bytes, Use] = {each.fingerprint: Use(each.name, 50, 50 * 2**20) for each in stages}
    cache.registry().add(uses)
    for options in (["--older-than", "30d"], ["--model", str(tmp_path / "model")]):
        assert run(["purge", str(conf), "--dry-run", *options]) == 0
        count = 0 if "--older-than" in options else 100
        said = capsys.readouterr().out
        assert f"runs have written about {count} entries" in said
        assert "nothing was removed" in said
    assert run(["purge", str(conf), "--model", str(tmp_path / "model")]) == 0
    said = capsys.readouterr().out
    assert said.index("about 100 entries (100.0 MiB)") < said.index("removed 100 entries")
    assert cache.registry().stocks() == {}
    cache.close()


@pytest.mark.parametrize(
    ("age", "said"),
    [
        ("0d", "written about 100 entries (100.0 MiB)"),
        ("1s", "at least 0 entries (0 B) and at most 100 entries (100.0 MiB): of the day"),
        ("2d", "written about 0 entries (0 B)"),
    ],
)
def test_a_purge_by_age_says_what_it_will_remove(conf, server, capsys, tmp_path, age, said):
    keys = str(tmp_path / "keys")
    cache = Cache.connect(server.url, namespace="n", key_file=keys, timeout_ms=PATIENT_MS)
    stages = Model.load(tmp_path / "model").stages
    cache.registry().add({s.fingerprint: Use(s.name, 50, 50 * 2**20) for s in stages})
    cache.close()
    assert run(["purge", str(conf), "--dry-run", "--older-than", age]) == 0
    assert said in capsys.readouterr().out


def test_a_row_of_a_subject_is_erased_with_the_subject_beside_it(conf, server, capsys, tmp_path):
    config = load_job_config(conf, sets=["cache.subject=user"])
    assert config.cache is not None
    model = Model.load(tmp_path / "model")
    with closing(Cache.from_config(config.cache)) as cache:
        model.predict({"x": ROWS[:1] * 2, "user": ["a", "b"]}, cache=cache)
    rows, bound = tmp_path / "rows.json", ["--set", "cache.subject=user"]
    rows.write_text(json.dumps({"x": ROWS[0]}))
    assert run(["purge", str(conf), *bound, "--input", str(rows)]) == 64
    assert "'user'" in capsys.readouterr().err
    rows.write_text(json.dumps({"x": ROWS[0], "user": "a"}))
    assert run(["purge", str(conf), *bound, "--input", str(rows)]) == 0
    assert "removed 2 entries; looked again: none is left" in capsys.readouterr().out
    (tmp_path / "subjects").write_text("a\nb\n")
    assert run(["purge", str(conf), *bound, "--subject", str(tmp_path / "subjects")]) == 0
    assert "removed 2 entries" in capsys.readouterr().out
    (tmp_path / "subjects").write_text("")
    assert run(["purge", str(conf), *bound, "--subject", str(tmp_path / "subjects")]) == 64


def test_keygen_says_what_a_key_that_is_added_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for flags in ([], [], ["--primary"]):
        assert run(["keygen", *flags, str(tmp_path / "keys")]) == 0
        told.append(capsys.readouterr().out.partition(" has key ")[2].strip())
    assert told == [
        "1; name it as cache.sealing.key_file, and keep it secret",
        "2; it opens entries, and seals none; put the file on every machine",
        "3; it seals; put the file on every machine",
    ]
