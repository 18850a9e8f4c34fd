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
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("kvspark", "jobs", "tests", "conf", "notebooks")
SOURCES = sorted(path for top in OURS for path in (ROOT / top).rglob("*.py"))
LIBRARY = [path for path in SOURCES if path.relative_to(ROOT).parts[0] in {"kvspark", "jobs"}]
MAX_LIBRARY_LINES = 300
MAX_TEST_LINES = 350
MAX_FUNCTION_LINES = 40
MAX_FOLDER_FILES = 12


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


TEXTS = {path: path.read_text(encoding="utf-8") for path in SOURCES}
TREES = {path: ast.parse(text) for path, text in TEXTS.items()}


def nodes(path: Path, *kinds: type[ast.AST]) -> Iterator[Any]:
    return (node for node in ast.walk(TREES[path]) if isinstance(node, kinds))


# ---------------------------------------------------------------- sizes and names


def test_a_file_has_one_concept_and_at_most_300_lines_a_test_350() -> None:
    most = {path: MAX_LIBRARY_LINES if path in LIBRARY else MAX_TEST_LINES for path in SOURCES}
    long = {name(path): text.count("\n") for path, text in TEXTS.items()}
    assert {path: n for path, n in long.items() if n > most[ROOT / path]} == {}


def test_a_function_has_at_most_40_lines_below_its_docstring() -> None:
    long = {}
    for path in SOURCES:
        for function in nodes(path, ast.FunctionDef, ast.AsyncFunctionDef):
            docstring = ast.get_docstring(function, clean=False)
            told = len(docstring.splitlines()) if docstring else 0
            lines = (function.end_lineno or 0) - function.lineno + 1 - told
            if lines > MAX_FUNCTION_LINES:
                long[f"{name(path)} {function.name}"] = lines
    assert long == {}


def newer_line(text: str) -> int | None:
    """The line of what Python 3.10 cannot read; None if it can read all."""
    try:
        ast.parse(text, feature_version=(3, 10))
    except SyntaxError as error:
        return error.lineno
    return None


def test_a_file_is_python_3_10() -> None:
    lines = {name(path): newer_line(text) for path, text in TEXTS.items()}
    assert {path: line for path, line in lines.items() if line is not None} == {}


def test_a_folder_has_at_most_12_files() -> None:
    """Beside its `__init__` and `__main__`."""
    files = Counter(path.parent for path in LIBRARY if not path.stem.startswith("__"))
    assert {name(folder): n for folder, n in files.items() if n > MAX_FOLDER_FILES} == {}


def test_no_file_is_a_place_for_leftovers() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "manager", "engine", "misc"}
    assert [name(path) for path in SOURCES if vague & set(path.stem.split("_"))] == []


def test_a_class_is_final_or_made_to_be_a_base() -> None:
    classes = [node for path in LIBRARY for node in nodes(path, ast.ClassDef)]
    bases = {ast.unparse(base).split(".")[-1] for node in classes for base in node.bases}
    neither = [
        node.name
        for node in classes
        if "final" not in {ast.unparse(decorator) for decorator in node.decorator_list}
        and not {"ABC", "Protocol"} & {ast.unparse(base) for base in node.bases}
        and node.name not in bases
    ]
    assert neither == []


# ---------------------------------------------------------------- what is public


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


def undocumented(module_name: str) -> Iterator[str]:
    """What is public in a module and says nothing."""
    module = importlib.import_module(module_name)
    if not module.__doc__:
        yield module_name
    for key, value in vars(module).items():
        if key.startswith("_") or getattr(value, "__module__", None) != module_name:
            continue
        if inspect.isclass(value):
            # A method that keeps the promise of its abstract class inherits its docstring.
            for attribute, member in vars(value).items():
                is_method = inspect.isfunction(member) or isinstance(member, property | classmethod)
                is_public = is_method and not attribute.startswith("_")
                if is_public and not inspect.getdoc(getattr(value, attribute)):
                    yield f"{module_name}.{key}.{attribute}"
        if (inspect.isclass(value) or inspect.isfunction(value)) and not inspect.getdoc(value):
            yield f"{module_name}.{key}"


def test_what_is_public_is_documented() -> None:
    assert [each for module_name in MODULES for each in undocumented(module_name)] == []


def test_the_examples_in_docstrings_run() -> None:
    with_examples = [path for path in LIBRARY if ">>> " in TEXTS[path]]
    for path in with_examples:
        module = importlib.import_module(
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        )
        assert doctest.testmod(module).failed == 0


# ---------------------------------------------------------------- words that stay out


PICKLES = {"pickle", "dill", "cloudpickle", "marshal", "joblib", "shelve"}
RUNNING = {"eval", "exec", "torch.load", "yaml.load", "os.system", "__import__"}


def running_data(path: Path) -> Iterator[str]:
    """What in a file can run code that it reads."""
    for node in nodes(path, ast.Import):
        yield from PICKLES & {alias.name.split(".")[0] for alias in node.names}
    for node in nodes(path, ast.ImportFrom):
        yield from PICKLES & {(node.module or "").split(".")[0]}
    for node in nodes(path, ast.Call):
        yield from RUNNING & {ast.unparse(node.func)}
    for node in nodes(path, ast.keyword):
        yield from {"shell", "trust_remote_code"} & {node.arg}


def test_nothing_reads_code_from_data() -> None:
    """No pickle and no eval: neither the store nor a bundle nor a conf can run code."""
    assert [(name(path), found) for path in LIBRARY for found in running_data(path)] == []


WORDS = re.compile(
    r"\b(TODO|FIXME|XXX|HACK)\b"  # An open end is an issue, not a comment.
    r"|[\"'\s](/home|/root|/Users|/work)/"  # A path of somebody's machine.
    r"|\bFeatureCache\b|\bCacheManager\b|\bInferenceEngine\b",  # Synonyms of our own words.
)


def test_no_banned_word_is_left() -> None:
    found = [
        f"{name(path)} line {number}: {line}"
        for path, text in TEXTS.items()
        if path != Path(__file__)
        for number, line in enumerate(text.splitlines(), 1)
        if WORDS.search(line)
    ]
    assert found == []


def test_a_notebook_is_shipped_with_the_outputs_of_a_whole_run() -> None:
    """Mend it with: python -m tests.notebooks."""
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        ran = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
        assert ran == list(range(1, len(ran) + 1)), path.name
        assert any(cell.get("outputs") for cell in cells), path.name


MOST_PRIVATE = 20
NOT_OURS_TO_NAME = {"_repr_html_", "_exit"}
"""What notebooks call, and the standard library's `os._exit`."""


def test_tests_ask_for_little_that_is_private() -> None:
    """A test that does is one that a change inside breaks: of each there is a reason, and few."""
    asked = [
        f"{name(path)} line {node.lineno}: {ast.unparse(node)}"
        for path in SOURCES
        if path not in LIBRARY
        for node in nodes(path, ast.Attribute)
        if node.attr.startswith("_")
        and not node.attr.startswith("__")
        and node.attr not in NOT_OURS_TO_NAME
        and ast.unparse(node.value) not in {"self", "cls"}
    ]
    imported = [
        f"{name(path)} line {node.lineno}: {alias.name}"
        for path in SOURCES
        if path not in LIBRARY
        for node in nodes(path, ast.ImportFrom)
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert len(asked + imported) <= MOST_PRIVATE, asked + imported


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


WRONG = (
    ("plan/plan.py", "import pyspark", "Only kvspark.spark imports pyspark"),
    ("plan/plan.py", "import kvspark.spark.scoring.score", "Imports point down"),
    ("cache/key/key.py", "import torch", "Only what computes imports torch"),
    ("cache/key/key.py", "import redis", "Only one file talks to Redis"),
    ("tune/space.py", "import optuna", "Only one file asks Optuna"),
    ("table/sink.py", "import deltalake", "Only one folder talks to Delta Lake's client"),
    (
        "cache/key/key.py",
        "import kvspark.model.stage.stage",
        "What is computed and what is remembered",
    ),
    ("config/reading/load.py", "import kvspark.cache.key.key", "The conf knows nothing"),
    ("stats.py", "import kvspark.spec", "Imports point down"),
    ("store/base.py", "import kvspark.cache.key.key", "Imports point down"),
    ("model/stage/stage.py", "import kvspark.store.base", "A model does not know"),
    ("spark/scoring/score.py", "import jobs.score", "Jobs sit on top of the library"),
)
"""A line at the end of a file, and the contract that it breaks."""


def test_each_wrong_import_breaks_its_contract(copy: Path) -> None:
    for file, line, _ in WRONG:
        with (copy / "kvspark" / file).open("a", encoding="utf-8") as stream:
            stream.write(f"\n{line}\n")
    done = lint_imports(copy)
    assert done.returncode == 1
    for file, line, contract in WRONG:
        assert re.search(rf"^{re.escape(contract)}.* BROKEN\b", done.stdout, re.MULTILINE)
        importer = "kvspark." + file.removesuffix(".py").replace("/", ".")
        imported = line.removeprefix("import ")
        assert f"{importer} -> {imported} (" in done.stdout, line


def test_a_circle_of_two_rooms_breaks_the_lint(copy: Path) -> None:
    with (copy / "kvspark/cache/seal/base.py").open("a", encoding="utf-8") as stream:
        stream.write("\nif TYPE_CHECKING:\n    import kvspark.cache.entry.format\n")
    done = lint_imports(copy)
    assert done.returncode == 1
    assert re.search(r"^No circle between .* BROKEN\b", done.stdout, re.MULTILINE)


def test_a_module_outside_the_layers_breaks_the_lint(copy: Path) -> None:
    (copy / "kvspark" / "leftovers.py").touch()
    done = lint_imports(copy)
    assert done.returncode == 1
    assert re.search(r"^Imports point down.* BROKEN\b", done.stdout, re.MULTILINE)


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
