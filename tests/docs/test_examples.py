"""What the docs say to type is there: commands and their options, keys of the conf, names of Python."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

import kvspark
from kvspark.cli.frame.group import commands
from kvspark.config.reading.load import load_job_config
from kvspark.config.reading.reference import conf_reference
from kvspark.config.store_url import SCHEMES
from tests.docs.pages import DOCS, PAGES, ROOT, name, prose, rows

CURRENT = [page for page in PAGES if page.parent.name != "adr"]
"""Decisions may speak of what was."""

SECTIONS = ("run", "input", "inputs", "model", "outputs", "cache", "output", "plan")
OWNERS = {"kvspark": kvspark, "Model": kvspark.Model, "Cache": kvspark.Cache}


def in_backticks(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def in_blocks() -> list[str]:
    """Each command of a block."""
    texts = [page.read_text(encoding="utf-8") for page in CURRENT]
    blocks = [re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL) for text in texts]
    return [
        line
        for found in blocks
        for block in found
        for line in re.findall(r"^kvspark .*", block, re.MULTILINE)
    ]


def in_sentences() -> list[str]:
    """Each command in backticks."""
    return [
        said for page in CURRENT for said in in_backticks(page) if re.match("kvspark [a-z]", said)
    ]


@pytest.mark.parametrize("line", sorted({*in_blocks(), *in_sentences()}))
def test_a_command_and_its_options_are_there(line: str) -> None:
    _, command, *arguments = shlex.split(line, comments=True)
    found = commands.commands[command]
    parser = found.make_parser(click.Context(found))
    # In a sentence an option may stand without its value.
    bare = line in in_sentences() and arguments and arguments[-1].startswith("--")
    parser.parse_args([*arguments, "VALUE"] if bare else arguments)


def test_the_page_of_public_names_has_every_command() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    (told,) = re.findall(r"`kvspark` is also a program: (.+?)\.\s", page, re.DOTALL)
    assert sorted(re.findall(r"`(\w+)`", told)) == sorted(commands.commands)


def test_a_key_of_the_conf_that_is_named_is_there() -> None:
    keys = re.findall(r"^\| `([\w.<>]+)` \|", conf_reference(), re.MULTILINE)

    keys += [key.rsplit(".", 1)[0] for key in keys if key.count(".") > 1]
    known = re.compile("|".join(re.escape(key).replace("<name>", r"(<name>|\w+)") for key in keys))
    wrong = []
    for page in CURRENT:
        for said in in_backticks(page):
            key = re.match(
                rf"(?:--set )?((?:{'|'.join(SECTIONS)})(?:\.[a-z_0-9<>]+)+)(?![\w(])", said
            )
            if key is None or key[1].endswith((".py", ".json", ".date")):
                continue
            if not known.fullmatch(key[1]):
                wrong.append(f"{name(page)}: {key[1]}")
    assert wrong == []


def test_a_name_of_python_that_is_named_is_there() -> None:
    wrong = []
    for page in CURRENT:
        for owner, attribute in re.findall(r"`(kvspark|Model|Cache)\.(\w+)", prose(page)):
            package = ROOT / "kvspark" / attribute
            is_module = package.is_dir() or package.with_suffix(".py").is_file()
            if not hasattr(OWNERS[owner], attribute) and not is_module:
                wrong.append(f"{name(page)}: {owner}.{attribute}")
    assert wrong == []


def test_every_kind_of_store_is_told() -> None:
    page = (DOCS / "caching.md").read_text(encoding="utf-8")
    told = "".join(cells[0] for cells in rows(DOCS / "caching.md", "| URL | store |"))
    assert "`rediss` in place of `redis` means TLS" in page
    plain = [scheme for scheme in SCHEMES if not scheme.startswith("rediss")]
    assert [scheme for scheme in plain if f"`{scheme}:" not in told] == []


def test_the_confs_of_the_page_of_tables_are_confs(tmp_path: Path) -> None:
    page = (DOCS / "tables.md").read_text(encoding="utf-8")
    written = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    sections = set()
    for text in written:
        own = "" if text.startswith("input:") else "input: {paths: [b]}\n"
        rest = "run: {name: a}\nmodel: {path: c}\n"
        rest += "" if "\noutput:" in text else "output: {path: d}\n"
        (tmp_path / "score.yaml").write_text(rest + own + text, encoding="utf-8")
        config = load_job_config(
            tmp_path / "score.yaml", environ={}, sets=["run.logical_date=2026-01-31"]
        )
        sections.add(config.input.format if config.input.sql is None else "sql")
        if not own:
            continue
        assert sorted(config.inputs) == ["age", "amounts", "prices", "ratio"]
    assert sections >= {"parquet", "delta", "iceberg", "csv", "sql"}
