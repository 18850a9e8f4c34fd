"""The house rules that no linter knows: sizes, names, layers that hold, words that stay out."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvspark

ROOT = Path(__file__).parents[1]
OURS = ("kvspark", "jobs", "tests", "conf", "notebooks")
SOURCES = sorted(path for top in OURS for path in (ROOT / top).rglob("*.py"))
LIBRARY = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in {"kvspark", "jobs"}]
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 40


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


# ---------------------------------------------------------------- sizes and names


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_file_has_one_concept_and_at_most_350_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_function_has_at_most_40_lines_below_its_docstring(path: Path) -> None:
    long = {}
    for function in functions(ast.parse(path.read_text(encoding="utf-8"))):
        docstring = ast.get_docstring(function, clean=False)
        told = len(docstring.splitlines()) if docstring else 0
        lines = (function.end_lineno or 0) - function.lineno + 1 - told
        if lines > MAX_FUNCTION_LINES:
            long[function.name] = lines
    assert not long


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_file_is_python_3_10(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 10))


def test_no_file_is_a_place_for_leftovers() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "manager", "engine", "misc"}
    assert [name(path) for path in SOURCES if vague & set(path.stem.split("_"))] == []


def test_a_class_is_final_or_made_to_be_a_base() -> None:
    classes = [
        node
        for path in LIBRARY
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    bases = {ast.unparse(base).split(".")[-1] for node in classes for base in node.bases}
    neither = [
        node.name
        for node in classes
        if "final" not in {ast.unparse(decorator) for decorator in node.decorator_list}
        and not {"ABC", "Protocol"} & {ast.unparse(base) for base in node.bases}
        and node.name not in bases
    ]
    assert neither == []


# ---------------------------------------------------------------- public names


def test_the_public_names_are_sorted() -> None:
    assert kvspark.__all__ == sorted(kvspark.__all__)
    assert set(kvspark.__all__) <= set(dir(kvspark))


@pytest.mark.parametrize("public", kvspark.__all__)
def test_a_public_name_can_be_imported(public: str) -> None:
    assert getattr(kvspark, public) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'scorre'"):
        _ = kvspark.scorre


def test_importing_kvspark_is_light() -> None:
    heavy = ("torch", "pyspark", "redis", "transformers", "pandas", "pyarrow", "pydantic")
    program = f"import kvspark, sys; print([name for name in {heavy!r} if name in sys.modules])"
    printed = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert printed.stdout.strip() == "[]"


MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in LIBRARY
    if path.name != "__init__.py" and "data" not in path.parts
]


@pytest.mark.parametrize("module_name", MODULES)
def test_what_is_public_is_documented(module_name: str) -> None:
    module = importlib.import_module(module_name)
    assert module.__doc__
    undocumented = []
    for key, value in vars(module).items():
        if key.startswith("_") or getattr(value, "__module__", None) != module_name:
            continue
        if inspect.isclass(value):
            # A method that keeps the promise of its abstract class inherits its docstring.
            methods = [
                f"{key}.{attribute}"
                for attribute, member in vars(value).items()
                if not attribute.startswith("_")
                and (inspect.isfunction(member) or isinstance(member, property | classmethod))
                and not inspect.getdoc(getattr(value, attribute))
            ]
            undocumented.extend(methods)
        if (inspect.isclass(value) or inspect.isfunction(value)) and not inspect.getdoc(value):
            undocumented.append(key)
    assert undocumented == []


def test_the_examples_in_docstrings_run() -> None:
    with_examples = [path for path in LIBRARY if ">>> " in path.read_text(encoding="utf-8")]
    for path in with_examples:
        module = importlib.import_module(
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        )
        assert doctest.testmod(module).failed == 0


# ---------------------------------------------------------------- words that stay out


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_nothing_reads_code_from_data(path: Path) -> None:
    """No pickle and no eval: neither the store nor a bundle nor a conf can run code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        (node.module or "").split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    assert not imported & {"pickle", "dill", "cloudpickle", "marshal", "joblib", "shelve"}
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not called & {"eval", "exec", "torch.load", "yaml.load", "os.system", "__import__"}
    assert not [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg in {"shell", "trust_remote_code"}
    ]


WORDS = re.compile(
    r"\b(TODO|FIXME|XXX|HACK)\b"  # An open end is an issue, not a comment.
    r"|[\"'\s](/home|/root|/Users|/work)/"  # A path of somebody's machine.
    r"|\bFeatureCache\b|\bCacheManager\b|\bInferenceEngine\b",  # Synonyms of our own words.
)


@pytest.mark.parametrize("path", [path for path in SOURCES if path != Path(__file__)], ids=name)
def test_no_banned_word_is_left(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if WORDS.search(line)] == []


def test_a_notebook_is_shipped_with_the_outputs_of_a_whole_run() -> None:
    """Mend it with: python -m tests.notebooks."""
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        ran = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
        assert ran == list(range(1, len(ran) + 1)), path.name
        assert any(cell.get("outputs") for cell in cells), path.name


# ---------------------------------------------------------------- layers


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the sources, to break."""
    skip = shutil.ignore_patterns("__pycache__", "*.parquet")
    for top in ("kvspark", "jobs"):
        shutil.copytree(ROOT / top, tmp_path / top, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [str(command), "--no-logo", "--no-cache"],
        cwd=folder,
        # Not the project that is installed: the copy.
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_layers_hold(copy: Path) -> None:
    done = lint_imports(copy)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("infer/plan.py", "import pyspark", "Only kvspark.spark imports pyspark"),
        ("infer/plan.py", "import kvspark.spark.score", "Imports point down"),
        ("cache/key.py", "import torch", "Only what computes imports torch"),
        ("cache/key.py", "import redis", "Only one file talks to Redis"),
        ("cache/key.py", "import kvspark.model.stage", "What is computed and what is remembered"),
        ("config/load.py", "import kvspark.cache.key", "The conf knows nothing"),
        ("stats.py", "import kvspark.spec", "Imports point down"),
        ("spark/score.py", "import jobs.score", "Jobs sit on top of the library"),
        ("leftovers.py", "", "Imports point down"),
    ],
)
def test_a_wrong_import_breaks_the_lint(copy: Path, file: str, line: str, contract: str) -> None:
    broken = copy / "kvspark" / file
    is_new = not broken.exists()
    assert is_new == (line == "")
    before = "" if is_new else broken.read_text(encoding="utf-8")
    broken.write_text(f"{before}\n{line}\n", encoding="utf-8")
    done = lint_imports(copy)
    assert done.returncode == 1
    assert re.search(rf"^{re.escape(contract)}.* BROKEN$", done.stdout, re.MULTILINE)


# ---------------------------------------------------------------- what is shipped beside the code


def test_every_target_of_the_makefile_is_in_its_help() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert phony
    told = re.findall(r"^([a-z-]+):.*## .+$", text, re.MULTILINE)
    assert set(phony[1].split()) == set(told)


def test_every_pin_is_exact_and_fits_every_build_of_torch() -> None:
    lines = (ROOT / "conf/constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.match(r"^[\w.-]+==[\w.]+( ; python_version >= \"3\.11\")?$", pin) for pin in pins)
    assert "torch==2.13.0" in pins


def test_the_schedules_call_what_is_there() -> None:
    dag = (ROOT / "conf/schedule/kvspark_dag.py").read_text(encoding="utf-8")
    ast.parse(dag)
    for file in re.findall(r'HOME / "([^"]+)"', dag):
        assert file == "dist/kvspark.zip" or (ROOT / file).exists()
    assert not re.search(
        r"(password|secret)\w*[\"']?\s*[=:]", dag.split('"""', 2)[2], re.IGNORECASE
    )
    table = (ROOT / "conf/schedule/crontab").read_text(encoding="utf-8")
    jobs = [line for line in table.splitlines() if re.match(r"^\d", line)]
    assert all(len(line.split()) > 5 for line in jobs)
    assert "flock --nonblock --conflict-exit-code 75" in jobs[0]
    # cron ends a command at a bare percent sign.
    assert not re.search(r"(?<!\\)%", "".join(jobs))
