"""What `kvspark explain` says of a code, a field of the run report, a conf key or an exit code."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterator, Mapping

from kvspark.config.reading.reference import conf_reference
from kvspark.errors import UsageError
from kvspark.report.codes import CODES, error_of
from kvspark.report.fields import HISTORY_FIELDS, REASONS, RUN_FIELDS, STAGE_FIELDS

EXIT_CODES = {
    0: "done; `degraded` in the report says if the cache was not used all the time",
    1: "doctor: something is bad",
    64: "a flag, a conf key or an argument is wrong; trying again cannot help",
    65: "the input or the model is not what the conf says; trying again cannot help",
    69: "the cache was required and is not there; try later",
    70: "a bug, or a worker that died",
    73: "the output cannot be written or published; trying again cannot help",
    75: "another run holds the output, or the weights could not be had; try later",
    77: "a secret is missing or was refused; trying again cannot help",
    129: "ended by a signal (SIGHUP)",
    130: "interrupted (Ctrl-C)",
    141: "nobody reads what is printed any more (`| head`); `score` has published all the same, and exits as ever",
    143: "ended by a signal (SIGTERM)",
}
"""By number, as `docs/operations.md` lists them."""

_STAGE = "stages."
_COLUMNS = 80


def explain(topic: str) -> str:
    """What `topic` means, in lines of at most 80 characters.

    A code (`KVS-1100`, in any case, or `1100`), the first places of some (`KVS-11`), a field of `run.json` (`rows_in`, `stages.hits`), a
    reason (`timeout`), a key of the conf (`cache.ttl_s`) or an exit code (`65`). A word with several meanings
    gets all of them.

    Raises:
        UsageError: it is none of these; names the nearest.
    """
    word = topic.strip()
    found = [
        *_codes(word.upper()),
        *_family(word.upper()),
        *_fields(word),
        *_conf_keys(word),
        *_exit_codes(word),
    ]
    if found:
        return "\n\n".join(map(_filled, found))
    near = difflib.get_close_matches(word, topics(), n=1) or difflib.get_close_matches(
        word.upper(), topics(), n=1
    )
    advice = f"did you mean {near[0]}? " if near else ""
    raise UsageError(
        f"nothing is known of {topic!r}; {advice}kvspark explain lists all that can be explained"
    )


def topics() -> list[str]:
    """Everything that `explain` takes."""
    fields = [*RUN_FIELDS, *HISTORY_FIELDS, *(f"{_STAGE}{name}" for name in STAGE_FIELDS)]
    return [*CODES, *fields, *REASONS, *_keys(), *map(str, EXIT_CODES)]


def contents() -> str:
    """The list that `kvspark explain` prints without a topic: codes with their meaning, and words."""
    lines = ["codes:", *(f"  {code}  {each.means}" for code, each in CODES.items())]
    for head, words in (
        ("fields of run.json:", RUN_FIELDS),
        ("fields of a line of the history, besides:", HISTORY_FIELDS),
        ("fields of each of its stages (stages.NAME):", STAGE_FIELDS),
        ("reasons in cache_errors and degraded:", REASONS),
        ("exit codes:", [str(code) for code in EXIT_CODES]),
    ):
        lines += ["", head, f"  {', '.join(words)}"]
    return _filled(
        "\n".join([*lines, "", "and every key of the conf: kvspark explain cache.ttl_s"])
    )


def _filled(text: str) -> str:
    """`text` with its lines broken at 80 columns, further ones indented below what they belong to."""
    return "\n".join(
        textwrap.fill(
            line,
            _COLUMNS,
            initial_indent="",
            subsequent_indent=" "
            * (len(line) - len(line.lstrip(" -")) + (2 if line.endswith(".") else 0)),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.splitlines()
    )


def _codes(word: str) -> Iterator[str]:
    code = f"KVS-{word}" if len(word) == 4 and word.isdigit() else word
    if code not in CODES:
        return
    text, error = CODES[code], error_of(code)
    exit_code = 70 if error is None else error.exit_code
    name = "" if error is None else f" ({error.__name__})"
    yield "\n".join(
        [
            f"{code}{name}: {text.means}",
            "likely because:",
            *(f"  - {cause}" for cause in text.causes),
            "what to do:",
            *(f"  - {step}" for step in text.to_do),
            f"written: {text.written}",
            f"exit code: {exit_code}, {EXIT_CODES[exit_code]}",
        ]
    )


def _family(word: str) -> Iterator[str]:
    """The codes that begin so, as the docs write it: `KVS-11` or `KVS-11..`."""
    begin = word.rstrip(".")
    if re.fullmatch(r"KVS-\d{1,3}", begin) and (of_it := [c for c in CODES if c.startswith(begin)]):
        yield "\n".join(
            [
                f"codes that begin with {begin}:",
                *(f"  {code}  {CODES[code].means}" for code in of_it),
            ]
        )


def _fields(word: str) -> Iterator[str]:
    inner = word.removeprefix(_STAGE)
    if word in RUN_FIELDS:
        yield f"{word} (field of run.json): {RUN_FIELDS[word]}"
    if word in HISTORY_FIELDS:
        yield f"{word} (field of a line of the history): {HISTORY_FIELDS[word]}"
    if inner in STAGE_FIELDS:
        yield f"{_STAGE}{inner} (field of each stage in run.json): {STAGE_FIELDS[inner]}"
    if word in REASONS:
        yield f"{word} (reason in cache_errors and degraded): {REASONS[word]}"


def _conf_keys(word: str) -> Iterator[str]:
    if word in (keys := _keys()):
        kind, default, meaning = keys[word]
        yield f"{word} (key of the conf; {kind}; default: {default}): {meaning}"


def _exit_codes(word: str) -> Iterator[str]:
    if not word.isdigit() or int(word) not in EXIT_CODES:
        return
    of_it = [code for code in CODES if (error := error_of(code)) and error.exit_code == int(word)]
    codes = ""
    if of_it:
        codes = f"\ncodes: {', '.join(of_it)}\nwhat to do: kvspark explain {of_it[0]}, or the code that the line names"
    yield f"exit code {word}: {EXIT_CODES[int(word)]}{codes}"


def _keys() -> Mapping[str, tuple[str, str, str]]:
    """Type, default and meaning of each key of the conf."""
    rows = (line.strip("| ").split(" | ") for line in conf_reference().splitlines()[2:])
    return {
        name.strip("`"): (kind, default.strip("`"), meaning.replace("&#124;", "|"))
        for name, kind, default, meaning in rows
    }
