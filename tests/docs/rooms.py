"""The folders of kvspark, and which imports which: read from the sources, nothing is imported."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

PACKAGE = "kvspark"
PUBLIC = "public names"
"""The room of `kvspark/__init__.py`, which imports what it re-exports."""


@final
@dataclass(frozen=True, slots=True)
class House:
    """The rooms of one version, by band."""

    bands: list[tuple[str, list[str]]]
    """From the top: the layer's name, and its rooms (`cache/store/redis`, or a file's `stats`)."""
    files: dict[str, int]
    """How many Python files lie in a room, `__init__.py` left out."""
    imports: set[tuple[str, str]]
    """(importer, imported), those under TYPE_CHECKING and in functions included."""

    def band_of(self, room: str) -> int:
        """The place of the room's band, counted from the top."""
        return next(place for place, (_, rooms) in enumerate(self.bands) if room in rooms)


def house_in(root: Path) -> House:
    """The house of the checkout at `root`."""
    modules = {_module(path, root): path for path in _sources(root)}
    files = Counter(room_of(name, modules) for name in modules if modules[name].stem != "__init__")
    imports = {
        (room_of(name, modules), room_of(target, modules))
        for name, path in modules.items()
        for target in _imported(ast.parse(path.read_text(encoding="utf-8")), modules)
    }
    rooms = set(files) | {PUBLIC}
    imports = {
        (above, below) for above, below in imports if above != below and {above, below} <= rooms
    }
    return House(_bands(root, rooms), dict(files), imports)


def room_of(module: str, modules: dict[str, Path]) -> str:
    """The room of a module: its folder inside the package, or itself where it lies in no folder."""
    if module == PACKAGE:
        return PUBLIC
    top, *parts = module.split(".")
    if top != PACKAGE:
        return top
    folder = parts if modules[module].stem == "__init__" else parts[:-1]
    return "/".join(folder or parts)


def _sources(root: Path) -> Iterator[Path]:
    for top in (PACKAGE, "jobs"):
        yield from sorted((root / top).rglob("*.py"))


def _module(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(tree: ast.AST, modules: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            named = [name if name in modules else node.module for name in whole]
        else:
            continue
        yield from (name for name in named if name in modules)


def _bands(root: Path, rooms: set[str]) -> list[tuple[str, list[str]]]:
    """The layers of import-linter's contract, with the rooms of each."""
    conf = (root / "pyproject.toml").read_text(encoding="utf-8")
    contract = rf'containers = \["{PACKAGE}"\].*?^layers = \[(.*?)^\]'
    (told,) = re.findall(contract, conf, re.DOTALL | re.MULTILINE)
    layers = re.findall(r'"([^"]+)"', told)
    tops = [[PUBLIC], ["jobs"]]
    tops += [[part.strip() for part in layer.replace(":", "|").split("|")] for layer in layers]
    bands = []
    for layer in tops:
        of_layer = {
            top: sorted(room for room in rooms if room.split("/")[0] == top) for top in layer
        }
        if all(found == [top] for top, found in of_layer.items()):
            bands.append((" | ".join(layer), [room for top in layer for room in of_layer[top]]))
        else:
            bands += [(_beside(top, layer), found) for top, found in of_layer.items()]
    return [(label, found) for label, found in bands if found]


def _beside(top: str, layer: list[str]) -> str:
    others = [other for other in layer if other != top]
    return f"{top} | (does not import {', '.join(others)})" if others else top
