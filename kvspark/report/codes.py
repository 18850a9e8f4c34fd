"""What each error code means, for `kvspark explain`: the texts, and nothing else.

Every code in the sources has its text here; a test looks for one that has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from kvspark import errors
from kvspark.errors import KvsparkError

UNEXPECTED = "KVS-1999"
"""An exception that is none of ours; the command line gives it this code."""

NOTHING = (
    "Nothing was published; what was published before is untouched. Entries that the cache got until "
    "then stay: they are right."
)
"""What is true of an error that ends a run before its output takes its place."""

_UNTOUCHED = "Nothing was read or written: it is said before anything starts."
_IN_PYTHON = f"{NOTHING} In Python, the action failed as any Spark action does."


@final
@dataclass(frozen=True, slots=True)
class Code:
    """One error code in words."""

    means: str
    causes: tuple[str, ...]
    """The likely ones, the likeliest first."""
    to_do: tuple[str, ...]
    written: str = NOTHING


CODES = {
    "KVS-1000": Code(
        "Something went wrong that has no code of its own, a Python worker that died for example.",
        (
            "a worker was killed: out of memory, or a fault in native code",
            "a worker was silent for longer than Spark waits",
        ),
        (
            "read the line: it names the partition and how often it was tried",
            "look into Spark's executor log for the worker's stack",
            "raise spark.executor.memoryOverhead, or lower plan.max_held_bytes and cache.l1_bytes",
        ),
    ),
    "KVS-1001": Code(
        "A flag, a conf key, an argument or a combination of them is wrong.",
        (
            "a key or a name with a typo; the line says which is nearest",
            "a value of the wrong type",
            "a package that an option needs is not installed",
        ),
        ("correct what the line names", "`kvspark explain KEY` says what a conf key means"),
        _UNTOUCHED,
    ),
    "KVS-1002": Code(
        "A secret is missing or cannot be read, or the server refuses it.",
        (
            "the environment variable or file that the conf names is not there for this user",
            "wrong user or password, or a user who may not do what a job does",
            "entries are to be sealed and there is no sealing key",
        ),
        (
            "set the variable or the file on the driver and on every executor",
            "`kvspark keygen FILE` makes sealing keys; name the file as cache.sealing.key_file",
            "`kvspark doctor CONF` tries what a job's user may do",
        ),
    ),
    "KVS-1100": Code(
        "The input table is not what the conf says.",
        (
            "a file is damaged, empty or no Parquet, or it changed while it was read",
            "a column has nulls and input.on_bad_row is `error`",
            "no row is left to score and input.fail_on_empty is on",
        ),
        (
            "repair the file that the line names, or write it again",
            "choose input.on_bad_row: null or quarantine for rows that cannot be scored",
        ),
        _IN_PYTHON,
    ),
    "KVS-1101": Code(
        "A column is missing or has another type than the model takes.",
        (
            "the column has another name: map it in `inputs`",
            "the table was written with another type, double for float",
        ),
        (
            "compare the types that the line names; the model's are in Model.inputs",
            "cast the column, or map another one",
        ),
        _IN_PYTHON,
    ),
    "KVS-1102": Code(
        "A row has no result: its value is bad, or a stage failed on it.",
        (
            "a null, a picture or sound that is damaged, an array of another shape",
            "an id that no embedding has, or a value on which the model raises",
        ),
        (
            "look at the row that the line names; its content is never shown",
            "choose input.on_bad_row: null keeps such rows, quarantine lists them",
        ),
        _IN_PYTHON,
    ),
    "KVS-1103": Code(
        "More rows are bad than input.max_bad_rows or input.max_bad_fraction allow.",
        (
            "the table's source is broken",
            "the model gets values of another kind than those for which it was made",
        ),
        (
            "the line counts bad rows by stage and error: correct the most frequent",
            "raise the limit, if so many are to be expected",
        ),
    ),
    "KVS-1200": Code(
        "The model cannot be used.",
        (
            "model.path names no model, or one of a kind that is not read (pickles never are)",
            "the model raised an exception on a batch; the line names the place in its code",
        ),
        (
            "see in docs/models.md, `Sources`, what model.path may be",
            "Model.predict on a few rows shows all of an exception of the model",
        ),
        _IN_PYTHON,
    ),
    "KVS-1201": Code(
        "torch.export cannot turn the module into a graph.",
        (
            "its Python code branches on values of its inputs",
            "it is in training mode, or draws random numbers",
        ),
        (
            "call .eval(), or rewrite the branch that the line names",
            "Model.from_callable takes any function, as one stage",
        ),
        _UNTOUCHED,
    ),
    "KVS-1202": Code(
        "The model cannot be cut where you asked.",
        ("the name is no module of the model", "no set of tensors crosses the model there"),
        (
            "choose a module path, or NAME@INPUT for where tensors enter it",
            'leave `cuts` out: "auto" finds them',
        ),
        _UNTOUCHED,
    ),
    "KVS-1203": Code(
        "A part of the model has no stable bytes, so it cannot have a fingerprint.",
        ("an object that is no number, text, list, mapping or tensor is part of the model",),
        ("give plain values instead of the object that the line names",),
        _UNTOUCHED,
    ),
    "KVS-1204": Code(
        "A saved model is damaged, incomplete or of another format.",
        (
            "the copy was not finished, or a file was changed afterwards",
            "another version of kvspark wrote it",
        ),
        ("save the model again with Model.save and copy the whole folder",),
    ),
    "KVS-1205": Code(
        "A stage gives other bits for the same row, in a second run or among other rows.",
        (
            "rows depend on each other: batch normalisation in training mode, a sort over the batch",
            "it draws random numbers, or uses an operator that is not deterministic",
        ),
        (
            "call .eval() and remove the dependence; cached results would be wrong",
            "without a cache such a model can be scored with its own library",
        ),
    ),
    "KVS-1206": Code(
        "A stage returned other rows, shapes or dtypes than it promised.",
        (
            "a function of Model.from_callable gives another number of rows",
            "the model's output depends on the size of the batch",
        ),
        ("make it return one result a row, as `outputs` says",),
        _IN_PYTHON,
    ),
    "KVS-1207": Code(
        "A worker found a stage's weights nowhere.",
        (
            "model.weights: redis, and the store has evicted or lost them",
            "model.weights: path, and the machine does not have the folder",
        ),
        (
            "start the run again: they are sent again",
            "model.weights: broadcast needs no store and no shared folder",
        ),
    ),
    "KVS-1210": Code(
        "A codec that rounds would change what the model predicts, or its outputs by too much.",
        ("the head reacts to differences that are smaller than the codec keeps",),
        (
            "choose bf16 or fp16 instead of int8, or an exact codec (zstd)",
            "raise plan.lossy_tolerance, if such a change is acceptable",
        ),
    ),
    "KVS-1300": Code(
        "The cache is required and was not used, or not all the time.",
        (
            "the store does not answer at the address of cache.url",
            "it failed while the run went on: then the rows are complete, and published",
        ),
        (
            "`kvspark doctor CONF` says what is wrong with the store",
            "leave cache.required and run.require_cache out: a run computes what it cannot find",
        ),
        "The line says it: nothing at the start of a run; the complete output if the cache failed "
        "later.",
    ),
    "KVS-1400": Code(
        "The output cannot be written or published.",
        (
            "the path is a file, a link, a mount point or a folder with what no run wrote",
            "this user may not write there, or the disk is full",
        ),
        ("choose another output.path, or correct what the line names",),
    ),
    "KVS-1401": Code(
        "The staged output does not match what was read: other rows, columns or files.",
        (
            "the input changed while it was scored",
            "somebody else writes to the folder beside the output",
        ),
        ("start again when the input does not change any more",),
    ),
    "KVS-1402": Code(
        "Another run holds the output.",
        ("a run of last night is still going on", "the scheduler started the job twice"),
        (
            "start again when it has ended: the line says which run it is, and where",
            "a lock ends with its process; there is nothing to delete",
        ),
        "Nothing was written.",
    ),
    "KVS-1500": Code(
        "A store fails. That never ends a run: rows are computed instead of found.",
        ("see KVS-1501, KVS-1502 and KVS-1503",),
        ("`kvspark doctor CONF` looks at the store",),
        "The run goes on; its report counts it and says degraded.",
    ),
    "KVS-1501": Code(
        "A store does not answer: refused, reset, hung, still loading, or a cluster without a node.",
        ("the server is down or far away", "a firewall or a wrong port in cache.url"),
        (
            "`kvspark doctor CONF` names the server",
            "raise cache.timeout_ms if the server is only far away",
        ),
        "The run goes on; its report counts it and says degraded.",
    ),
    "KVS-1502": Code(
        "A store takes no writes: out of memory, read-only, or its disk is full.",
        ("maxmemory is reached and the policy is noeviction", "the server is a replica"),
        ("set maxmemory-policy allkeys-lfu, or cache.budget_bytes to what may be used",),
        "The run goes on; its report counts it and says degraded.",
    ),
    "KVS-1503": Code(
        "A store refuses this user: password, permission or certificate.",
        ("the password was changed", "the user may not call a command that a job needs"),
        (
            "set cache.username and cache.password_env or password_file",
            "`kvspark doctor CONF` tries each command",
        ),
        "Nothing, if it is so at the start; else the run goes on and its report says degraded.",
    ),
    UNEXPECTED: Code(
        "An exception that kvspark does not know: a bug, or a failure inside Spark.",
        ("a bug in kvspark", "Spark or the machine failed in a way that nobody has described yet"),
        (
            "run it again as `kvspark --debug ...`: that shows the traceback",
            "report the traceback; look first whether it holds values of your rows",
        ),
    ),
}
"""By code, in order."""


def error_of(code: str) -> type[KvsparkError] | None:
    """The error class that has `code`; None for what is raised by no class of ours."""
    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type))
    return next((k for k in kinds if issubclass(k, KvsparkError) and k.code == code), None)
