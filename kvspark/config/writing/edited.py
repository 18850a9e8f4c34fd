"""A YAML text with some of its values changed, and everything else as a person wrote it.

A value is found by PyYAML's marks and replaced in the text; a key that is not there is written behind
the last one of its mapping. Whoever calls reads the text again and compares: an anchor, or a form that
is not known here, would show there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import yaml

from kvspark.config.reading.document import Trail, nodes_of
from kvspark.errors import UsageError

Plain = int | str | bool | None

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_BACKWARDS_IS_TEXT = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def edited(text: str, changes: Mapping[Trail, Plain], *, note: str = "") -> str:
    """`text` with the value at each trail of `changes`; `note` is a comment behind those on lines of their own.

    Raises:
        UsageError: a value stands where a mapping is needed.
    """
    for trail, value in changes.items():
        text = _with(text, trail, value, f" # {note}" if note else "")
    return text


def _with(text: str, trail: Trail, value: Plain, note: str) -> str:
    node, in_flow = nodes_of(text), False
    if node is None:
        return f"{text}{_lines(trail, value, '', note)}"
    for depth, key in enumerate(trail):
        if isinstance(node, yaml.MappingNode):
            in_flow = in_flow or bool(node.flow_style)
            child = next((v for k, v in node.value if str(k.value) == key), None)
            if child is None:
                return _inserted(text, node, trail[depth:], value, note, in_flow=in_flow)
            node = child
        elif isinstance(node, yaml.SequenceNode):
            in_flow = in_flow or bool(node.flow_style)
            node = node.value[int(key)]
        else:
            return _replaced(text, node, _mapping(text, node, trail, depth, value), "")
    return _replaced(text, node, _scalar(value), "" if in_flow else note)


def _mapping(text: str, node: yaml.Node, trail: Trail, depth: int, value: Plain) -> str:
    """What stands in the place of a scalar where a mapping is needed: of nothing, or of the URL of a cache."""
    inner = _flow(trail[depth:], value)
    written = text[node.start_mark.index : node.end_mark.index]
    if node.tag.endswith(":null"):
        return f"{{{inner}}}"
    if trail[:depth] == ("cache",):
        return f"{{url: {written}, {inner}}}"
    raise UsageError(f"{'.'.join(trail[:depth])} is one value and has no keys")


def _replaced(text: str, node: yaml.Node, new: str, note: str) -> str:
    start, end = node.start_mark.index, node.end_mark.index
    rest = text[end:].split("\n", 1)[0]
    space = "" if start and text[start - 1] in " [{" else " "
    return f"{text[:start]}{space}{new}{'' if rest.strip() else note}{text[end:]}"


def _inserted(
    text: str, node: yaml.MappingNode, rest: Trail, value: Plain, note: str, *, in_flow: bool
) -> str:
    if in_flow:
        end = node.end_mark.index - 1
        before = text[:end].rstrip()
        comma = "" if before.endswith(("{", ",")) else ", "
        return f"{text[:end].rstrip(' ')}{comma}{_flow(rest, value)}{text[end:]}"
    lines = text.splitlines(keepends=True)
    place = _last_line(node) + 1
    indent = " " * node.value[0][0].start_mark.column
    if lines and not lines[place - 1].endswith("\n"):
        lines[place - 1] += "\n"
    return "".join([*lines[:place], _lines(rest, value, indent, note), *lines[place:]])


def _last_line(node: yaml.Node) -> int:
    """The line, from 0, on which the last thing inside `node` ends."""
    if isinstance(node, yaml.MappingNode | yaml.SequenceNode) and not node.flow_style:
        last = node.value[-1]
        return _last_line(last[1] if isinstance(last, tuple) else last)
    line: int = node.end_mark.line
    # A text of several lines (`|`) ends at the start of the line behind it.
    return line - 1 if node.end_mark.column == 0 and line > node.start_mark.line else line


def _lines(rest: Trail, value: Plain, indent: str, note: str) -> str:
    *above, last = rest
    made = ""
    for key in above:
        made += f"{indent}{_key(key)}:\n"
        indent += "  "
    return f"{made}{indent}{_key(last)}: {_scalar(value)}{note}\n"


def _flow(rest: Trail, value: Plain) -> str:
    first, *more = rest
    return f"{_key(first)}: {'{' + _flow(tuple(more), value) + '}' if more else _scalar(value)}"


def _key(text: str) -> str:
    is_plain = _PLAIN_KEY.fullmatch(text) and text.lower() not in _BACKWARDS_IS_TEXT
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _scalar(value: Plain) -> str:
    is_plain = isinstance(value, str) and _PLAIN_KEY.fullmatch(value)
    if is_plain and str(value).lower() not in _BACKWARDS_IS_TEXT:
        return str(value)
    return json.dumps(value, ensure_ascii=False)
