"""A YAML file as plain values, together with the line that each of them was written on.

The scalars are those of YAML 1.2's core schema, so that `no` and `2026-01-01` are text and `007`
keeps its zeros; YAML 1.1, PyYAML's own, reads a boolean, a date and 7. Nothing but mappings,
lists and scalars can be made; a key that is written twice is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import yaml

from kvspark.errors import UsageError

Trail = tuple[str, ...]
"""The keys that lead to a value, from the top."""

_TAG = "tag:yaml.org,2002:"


_PATTERNS = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"0|-?[1-9][0-9]{0,17}",
    "float": r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?",
}
"""What an unquoted scalar is, the first that fits; text otherwise."""


@final
class _CoreLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own name and type.


for _kind_of_scalar, _pattern in _PATTERNS.items():
    _CoreLoader.add_implicit_resolver(_TAG + _kind_of_scalar, re.compile(f"^(?:{_pattern})$"), None)


@final
@dataclass(frozen=True, slots=True)
class Document:
    """What a YAML text says, and where it says it."""

    value: Any
    lines: dict[Trail, int] = field(default_factory=dict)
    """The line, from 1, of the value at each trail of keys."""


def read_document(path: Path) -> Document:
    """The document in the file `path`.

    Raises:
        UsageError: there is no such file, it cannot be read, or it is not YAML that we take.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"conf file {path} does not exist; conf/score.yaml of the project is an example"
        ) from None
    except UnicodeDecodeError:
        raise UsageError(f"conf file {path} is not UTF-8 text; save it as UTF-8") from None
    except OSError as exc:
        raise UsageError(f"conf file {path} cannot be read ({exc.strerror})") from None
    return parse_document(text, str(path))


def parse_document(text: str, name: str) -> Document:
    """The document that `text` is; `name` says in errors where the text came from.

    Raises:
        UsageError: the text is not YAML, writes a key twice, or holds more than plain values.
    """
    document = Document(None)
    try:
        root = yaml.compose(text, Loader=_CoreLoader)
        value = _value(root, (), name, document.lines) if root is not None else None
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = f" line {mark.line + 1}" if mark else ""
        # Only the kind of trouble: PyYAML's full text quotes the line, which may hold a secret.
        raise UsageError(f"{name}{line}: this is not YAML ({_kind(exc)})") from None
    except (yaml.YAMLError, RecursionError):
        raise UsageError(f"{name}: this is not YAML that can be read") from None
    return Document(value, document.lines)


def nodes_of(text: str) -> yaml.Node | None:
    """The nodes of a YAML text that `parse_document` has taken, with where each one is; None if it is empty."""
    root: yaml.Node | None = yaml.compose(text, Loader=_CoreLoader)
    return root


def _kind(exc: yaml.MarkedYAMLError) -> str:
    if "'\\t'" in (exc.problem or ""):
        return "a tab; indent with spaces"
    # PyYAML quotes in '...' what it found: one character or a token's kind is safe, a name is not.
    return re.sub(r"'[^']{2,}'", "'…'", exc.problem or "broken")


def _value(node: yaml.Node, trail: Trail, name: str, lines: dict[Trail, int]) -> Any:
    lines.setdefault(trail, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node, name)
    if node.tag not in {f"{_TAG}map", f"{_TAG}seq"}:
        raise _tagged(node, name)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, trail, name, lines)
    return [
        _value(item, (*trail, str(index)), name, lines) for index, item in enumerate(node.value)
    ]


def _mapping(
    node: yaml.MappingNode, trail: Trail, name: str, lines: dict[Trail, int]
) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise UsageError(
                f"{name} line {line}: a key must be text; write '{{{{ ... }}}}' in quotes"
            )
        # A key is always text, also where it looks like a number.
        key = str(key_node.value)
        here = (*trail, key)
        if key in mapping:
            raise UsageError(
                f"{name} line {line}: {'.'.join(here)} is written twice (first on line "
                f"{lines[here]}); keep one"
            )
        lines[here] = line
        mapping[key] = _value(value_node, here, name, lines)
    return mapping


def _scalar(node: yaml.Node, name: str) -> str | int | float | bool | None:
    text, kind = str(node.value), node.tag.removeprefix(_TAG)
    if kind == "str":
        return text
    # A tag that was written out (`!!int x`) may claim what the text is not.
    if kind not in _PATTERNS or not re.fullmatch(_PATTERNS[kind], text):
        raise _tagged(node, name)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    return int(text) if kind == "int" else float(text)


def _tagged(node: yaml.Node, name: str) -> UsageError:
    line = node.start_mark.line + 1
    return UsageError(f"{name} line {line}: a tag like !x is refused; write plain values")
