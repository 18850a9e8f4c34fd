"""The conf reference, `docs/conf.md`, written from the descriptions of the fields themselves.

`python -m kvspark.config.reading.reference docs/conf.md` writes it between the file's two markers.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kvspark.config.job import JobConfig
from kvspark.config.section.explain import is_list, is_mapping, section_in
from kvspark.errors import UsageError

BEGIN = "<!-- conf:begin -->"
END = "<!-- conf:end -->"

_WORDS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
}


def conf_reference() -> str:
    """A Markdown table of every key: its type, its default and its meaning."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|", *_rows(JobConfig, "")]
    return "\n".join(lines) + "\n"


def with_reference(text: str) -> str:
    """`text` with the reference between its two markers, the rest untouched.

    Raises:
        UsageError: a marker is missing.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"the file has no {BEGIN} and {END} to write the reference between")
    return f"{before}{begin}\n{conf_reference()}{end}{after}"


def main(arguments: list[str]) -> None:
    """Writes the reference into each file that is named."""
    for path in map(Path, arguments):
        path.write_text(with_reference(path.read_text(encoding="utf-8")), encoding="utf-8")


def _rows(section: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        inner = section_in(field.annotation)
        if inner is None or _is_told(field.annotation):
            cells = (f"`{prefix}{name}`", _type(field.annotation), _default(field), _text(field))
            yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
        if inner is not None and not is_list(field.annotation):
            free = ".<name>" if is_mapping(field.annotation) else ""
            yield from _rows(inner, f"{prefix}{name}{free}.")


def _type(annotation: Any) -> str:
    if annotation in _WORDS:
        return _WORDS[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin in {typing.Union, types.UnionType}:
        return " or ".join(_type(argument) for argument in arguments if argument is not type(None))
    if origin is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple:
        return "list" if section_in(annotation) else "list of texts"
    return "section" if section_in(annotation) and origin is not dict else "mapping"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if default in ({}, ()):
        return "empty"
    return f"`{default:.12g}`" if isinstance(default, float) else f"`{default}`"


def _is_told(annotation: Any) -> bool:
    """True for what has a row of its own beside those of the section inside."""
    return is_mapping(annotation) or is_list(annotation) or _is_optional(annotation)


def _is_optional(annotation: Any) -> bool:
    return type(None) in typing.get_args(annotation)


def _text(field: FieldInfo) -> str:
    return field.description or ""


if __name__ == "__main__":
    main(sys.argv[1:])
