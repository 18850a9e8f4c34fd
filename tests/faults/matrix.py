"""Every row of the fault matrix and of the matrix of bad input, by number and in words.

A test or a fault that stands for a row says so: `@covers("F12")`, or a `CacheRow("F12", ...)`. What no
test can show has its reason in `NOT_HERE`; tests/faults/test_matrix.py sees to it that every row is in
one of the two, and `make faults` runs all of them.
"""

from __future__ import annotations

import pytest

KILLS_ENV = "KVSPARK_TEST_KILLS"
"""How often a job is killed at a random moment, where that is to be tried more than twice."""

FAULTS = {
    "F1": "the server was never there: a refused port",
    "F2": "the server is killed in the middle",
    "F3": "the server is restarted with an empty memory",
    "F4": "the server hangs: it takes what comes and says nothing",
    "F5": "only writes are paused",
    "F6": "each answer is 50 to 300 ms late",
    "F7": "an answer comes a few bytes at a time",
    "F8": "a black hole: nothing comes through any more",
    "F9": "connections are reset, or taken and closed",
    "F10": "a fifth of the packets is lost; a link of 1 Mbit/s",
    "F11": "an answer is cut at byte k",
    "F12": "a bit of a value is flipped on the wire",
    "F13": "an answer belongs to another key",
    "F14": "out of memory, and nothing is evicted",
    "F15": "entries are evicted in the middle",
    "F16": "an entry is evicted between a question whether it is there and the look-up",
    "F17": "everything is deleted in the middle",
    "F18": "the server loads its data",
    "F19": "the server is a read-only replica",
    "F20": "a replica that has lost its master",
    "F21": "the server cannot save and takes no writes (MISCONF)",
    "F22": "a script keeps the server busy",
    "F23": "the server takes no more clients",
    "F24": "the server closes live connections",
    "F25": "the password changes in the middle",
    "F26": "a wrong password, or no permission, at the start",
    "F27": "TLS: no authority, another host, expired, a port without TLS",
    "F28": "a cluster: MOVED to a plain client, a node stopped, CLUSTERDOWN, all dead",
    "F29": "another client's huge value keeps the shared server busy",
    "F30": "the server crashes",
    "F31": "entries expire in the middle",
    "F32": "a Python worker is killed at its first attempt",
    "F33": "a Python worker dies at every attempt",
    "F34": "a worker takes more memory than it may",
    "F35": "the model hangs",
    "F36": "an executor is killed, or stopped",
    "F37": "a task runs twice at a time (speculation)",
    "F38": "the driver is killed while rows are scored",
    "F39": "the driver is killed while it publishes",
    "F40": "two runs on one target",
    "F41": "a scheduler starts a run again while its driver still lives",
    "F42": "a notebook's cell is interrupted",
    "F43": "the disk of the output is full",
    "F44": "a model that gives other bits each time",
    "F45": "another model or another torch",
}

BAD_INPUT = {
    "B1": "a file that is no Parquet, or ends early",
    "B2": "a damaged page",
    "B3": "a file of zero bytes",
    "B4": "a column is missing",
    "B5": "a column of another type, or files that do not agree",
    "B6": "a NULL where the model takes a value",
    "B7": "NaN, infinities and -0.0",
    "B8": "NaN or infinities in the model's results",
    "B9": "an empty partition",
    "B10": "no rows at all",
    "B11": "a row of another length than the model takes",
    "B12": "a row or a value that is too large",
    "B13": "text in other normal forms, emoji, lone surrogates, NUL",
    "B14": "an id that is there twice",
    "B15": "an id above 2^53, among NULLs",
    # Empty, very long and NUL values trouble who writes partitions; kvspark only reads them.
    "B16": "partition values that look like numbers, such as 007",
    "B17": "a cached value that is not the entry looked for",
    "B18": "a model that cannot cross to the executors",
    "B19": "a model that is too large to be broadcast",
    "B20": "a model that returns other rows or types than promised",
    "B21": "a model that mixes rows",
    "B22": "a model that fails at one row",
    "B23": "a device out of memory",
}

ROWS = FAULTS | BAD_INPUT


NOT_HERE: dict[str, str] = {}
"""Why a row has no test."""


def covers(*rows: str) -> pytest.MarkDecorator:
    """Says that a test stands for these rows.

    Raises:
        KeyError: there is no such row.
    """
    for row in rows:
        _ = ROWS[row]
    return pytest.mark.covers(*rows)
