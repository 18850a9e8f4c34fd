"""A model for people: its stages as a table, as Mermaid and as DOT; and why two of them differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from kvspark.display import graph, heading, table
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.stage.stage import Stage


@final
@dataclass(frozen=True, slots=True)
class Description:
    """The stages of one model; `print` shows the table, a notebook the same."""

    name: str
    rows: tuple[tuple[str, ...], ...]
    edges: tuple[tuple[str, str], ...]
    """From an input or a stage to the stage that takes it. An input that has the name of a stage, as that of a
    tower often has, is called `input NAME`."""
    inputs: tuple[str, ...]
    """As `edges` calls them."""
    lengths: str = ""
    """How rows of varying length are computed, and why; empty if none vary."""

    def __str__(self) -> str:
        """The table, as plain text."""
        widths = [max(len(row[i]) for row in (_HEAD, *self.rows)) for i in range(len(_HEAD))]
        lines = [_line(_HEAD, widths), _line(tuple("-" * width for width in widths), widths)]
        lines += [_line(row, widths) for row in self.rows]
        return "\n".join([*lines, *([self.lengths] if self.lengths else [])])

    def __repr__(self) -> str:
        return f"Description({self.name!r}, {len(self.rows)} stages)"

    def _repr_html_(self) -> str:
        """The DAG as a picture, and the table."""
        nodes = {**dict.fromkeys(self.inputs, ""), **{row[0]: _below(row) for row in self.rows}}
        title = heading(self.name, self.lengths)
        return title + graph(nodes, self.edges) + table(_HEAD, self.rows, texts=4)

    def mermaid(self) -> str:
        """The DAG as a Mermaid flowchart."""
        nodes = [f'    {_id(name)}[("{name}")]' for name in self.inputs]
        nodes += [f'    {_id(row[0])}["{row[0]}<br/>{row[4]} a row"]' for row in self.rows]
        edges = [f"    {_id(start)} --> {_id(end)}" for start, end in self.edges]
        return "\n".join(["flowchart LR", *nodes, *edges])

    def dot(self) -> str:
        """The DAG as a Graphviz digraph."""
        nodes = [f'  "{name}" [shape=cylinder];' for name in self.inputs]
        nodes += [
            f'  "{row[0]}" [shape=box, label="{row[0]}\\n{row[4]} a row"];' for row in self.rows
        ]
        edges = [f'  "{start}" -> "{end}";' for start, end in self.edges]
        return "\n".join(["digraph {", "  rankdir=LR;", *nodes, *edges, "}"])


_NAMES = 6
"""Of stages, in a line."""
_HEAD = ("stage", "kind", "inputs", "takes", "bytes", "weights", "fingerprint")


def describe(bundle: Bundle) -> Description:
    """The stages of `bundle`: what reaches each, what it takes, what it gives, what it weighs."""
    rows, edges = [], []
    inputs = _input_names(bundle)
    for stage in bundle.stages:
        weights = sum(bundle.files[file]["size_bytes"] for file in bundle.stage_files[stage.name])
        size = stage.bytes_per_row
        takes = [source.stage or source.tensor.name for source in stage.sources]
        starts = [source.stage or inputs[source.tensor.name] for source in stage.sources]
        edges += [(start, stage.name) for start in dict.fromkeys(starts)]
        rows.append(
            (
                stage.name,
                stage.kind,
                ", ".join(stage.inputs),
                ", ".join(dict.fromkeys(takes)),
                "varies" if size is None else f"{size:,}",
                _weight(weights),
                stage.fingerprint.hex()[:12],
            )
        )
    names = tuple(inputs.values())
    return Description(bundle.name, tuple(rows), tuple(edges), names, _lengths(bundle))


def _weight(size_bytes: int) -> str:
    """A size in which a small head is not 0."""
    return f"{size_bytes / 1e6:,.1f} MB" if size_bytes >= 100_000 else f"{size_bytes / 1e3:,.1f} kB"


def _lengths(bundle: Bundle) -> str:
    rule = bundle.length_rule
    if not bundle.has_lengths:
        return ""
    most = "on" if rule.longest is None else f"to {rule.longest}"
    how = "padded to buckets, which changes no result"
    if rule.is_exact:
        how = f"computed as they are, because {rule.reason or 'the model says so'}"
    apart = " and ".join(", ".join(names) for names in rule.groups)
    apart = f"; {apart} may differ in length, such rows are computed as they are" if apart else ""
    return f"lengths: from {rule.shortest} {most}; rows are {how}{apart}"


def _input_names(bundle: Bundle) -> dict[str, str]:
    """What a picture calls each input, so that no stage is called the same."""
    stages = {stage.name for stage in bundle.stages}
    names = (spec.name for spec in bundle.inputs)
    return {name: f"input {name}" if name in stages else name for name in names}


def _below(row: Sequence[str]) -> str:
    return f"{row[4]} bytes a row" if row[4] != "varies" else "size varies"


def line_of(bundle: Bundle) -> str:
    """Name, fingerprint and stages in a line."""
    names = [stage.name for stage in bundle.stages]
    stages = " -> ".join(names) if len(names) <= _NAMES else f"{len(names)} stages"
    return f"{bundle.name!r}, {bundle.fingerprint.hex()[:12]}, {stages}"


def html_of(bundle: Bundle) -> str:
    """The stages as a picture and a table, for a notebook."""
    return describe(bundle)._repr_html_()


def explain_miss(a: Bundle, b: Bundle) -> str:
    """Why entries of model `a` are misses for model `b`: the first stage and the field that differ.

    One line for each stage of `b` in order, as far as the first that differs: what is shared, and
    what is not. Stages are compared in order, whatever their names are.
    """
    lines = []
    for mine, theirs in zip(a.stages, b.stages, strict=False):
        if mine.fingerprint == theirs.fingerprint:
            lines.append(f"{theirs.name}: shared, fingerprint {theirs.fingerprint.hex()[:12]}")
            continue
        lines.append(f"{theirs.name}: differs in {', '.join(_differences(a, mine, b, theirs))}")
        return "\n".join(lines)
    if len(a.stages) != len(b.stages):
        more = (a if len(a.stages) > len(b.stages) else b).stages[len(lines)]
        lines.append(f"{more.name}: only in one of the models")
    return "\n".join(lines)


def _differences(a: Bundle, mine: Stage, b: Bundle, theirs: Stage) -> list[str]:
    found = [
        f"{field} ({left} / {right})"
        for field, left, right in (
            ("kind", mine.kind, theirs.kind),
            ("dtypes and shapes of its results", _specs(mine), _specs(theirs)),
            ("what it takes", _takes(mine), _takes(theirs)),
            ("micro-batch", a.shapes_of(mine).micro_batch, b.shapes_of(theirs).micro_batch),
            ("lengths", _lengths(a), _lengths(b)),
        )
        if left != right
    ]
    if mine.content != theirs.content:
        found.append(_content(a, mine, b, theirs))
    return found or ["a stage before it"]


def _content(a: Bundle, mine: Stage, b: Bundle, theirs: Stage) -> str:
    """Which files of the two stages differ."""
    names = {"graph.json": "operators", "weights.safetensors": "weights or buffers"}
    digests = [
        {
            file.rsplit("/", 1)[-1]: bundle.files[file]["sha256"]
            for file in bundle.stage_files[stage.name]
        }
        for bundle, stage in ((a, mine), (b, theirs))
    ]
    files = sorted(set(digests[0]) | set(digests[1]))
    changed = [names.get(f, f) for f in files if digests[0].get(f) != digests[1].get(f)]
    return " and ".join(changed) or "content"


def _specs(stage: Stage) -> list[str]:
    return [f"{spec.dtype}{list(spec.shape)}" for spec in stage.outputs]


def _takes(stage: Stage) -> list[str]:
    return [f"{source.tensor.dtype}{list(source.tensor.shape)}" for source in stage.sources]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _id(name: str) -> str:
    return "n_" + "".join(c if c.isalnum() else "_" for c in name)
