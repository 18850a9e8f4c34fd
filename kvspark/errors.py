"""Every error that kvspark raises on purpose, and the exit code that each one means.

    KvsparkError                          70
      UsageError(ValueError)              64   a flag, a conf key or an argument is wrong
      SecretError                         77   a secret is missing, unreadable or refused
      DataError(ValueError)               65   the input table is not what the conf says
        SchemaError                       65   a column is missing or has another type
        RowError                          65   a row has no result: its value, or a stage on it
        BadRowsError                      65   more rows are bad than the conf allows
      ModelError                          65   the model cannot be used
        ExportError                       65   torch.export cannot turn it into a graph
        CutError(ValueError)              65   it cannot be cut where the caller asked
        FingerprintError(TypeError)       65   it holds something that has no stable address
        BundleError                       65   a bundle on disk is damaged or foreign
        NotRepeatableError                65   two runs, or other companions, gave other bits
        OutputMismatchError               65   it returned other rows, shapes or dtypes than promised
        WeightsUnavailableError           75   a worker found a stage's weights nowhere
        LossyCodecError                   65   a lossy codec changes what it predicts
      CacheRequiredError                  69   the cache was required and is not there
      OutputError                         73   the output cannot be written or published
        ValidationError                   73   the written rows are not the rows that were read
      RunLockedError                      75   another run holds the target
      StoreError                          70   never leaves kvspark.cache: a miss, counted by reason
        StoreUnavailableError                  refused, reset, hung, loading, cluster down
        StoreFullError                         reads go on, writes do not
        StoreRefusedError                      wrong password, no permission, TLS not verified

Exit codes follow sysexits.h. Arguments are positional so that every error survives pickle
between a worker and the driver.
"""

from __future__ import annotations

from typing import ClassVar, final


class KvsparkError(Exception):
    """Root of every error that kvspark raises on purpose."""

    exit_code: ClassVar[int] = 70
    code: ClassVar[str] = "KVS-1000"

    def line(self) -> str:
        """The whole error on one line, as the command line and the logs print it."""
        return f"{self.code} {' '.join(str(self).split())}"


@final
class UsageError(KvsparkError, ValueError):
    """Raised when a flag, a conf key or an argument is wrong."""

    exit_code = 64
    code = "KVS-1001"


@final
class SecretError(KvsparkError):
    """Raised when a secret is missing, unreadable, or refused by the server."""

    exit_code = 77
    code = "KVS-1002"


class DataError(KvsparkError, ValueError):
    """Raised when the input table is not what the conf says."""

    exit_code = 65
    code = "KVS-1100"


@final
class SchemaError(DataError):
    """Raised when a column is missing or has another type than the model takes."""

    code = "KVS-1101"


@final
class RowError(DataError):
    """Raised when a row has no result: names its place and never its content."""

    code = "KVS-1102"

    def __init__(
        self, message: str, row: int | None = None, trouble: str | None = None, kind: str = ""
    ) -> None:
        super().__init__(message, row, trouble, kind)
        self.row = row
        """The row's place among the rows at hand; None once that is part of the message."""
        self.trouble = trouble or message
        """What is wrong with the row, without where and what to do."""
        self.kind = kind or "RowError"
        """The class of what a decoder or a stage raised, or `NullValue`, `WrongValue`."""
        self.batch: object | None = None
        """What the caller calls the batch that has the row, where several are read; stays in the process."""

    def __str__(self) -> str:
        message = str(self.args[0])
        return message if self.row is None else f"row {self.row} of the batch: {message}"

    def at(self, row: int) -> RowError:
        """The same error, where the row is at place `row`."""
        return RowError(str(self.args[0]), row, self.trouble, self.kind)


@final
class BadRowsError(DataError):
    """Raised when more rows are bad than the conf allows."""

    code = "KVS-1103"


class ModelError(KvsparkError):
    """Raised when a model cannot be used."""

    exit_code = 65
    code = "KVS-1200"


@final
class ExportError(ModelError):
    """Raised when torch.export cannot turn a module into a graph."""

    code = "KVS-1201"


@final
class CutError(ModelError, ValueError):
    """Raised when a model cannot be cut where the caller asked."""

    code = "KVS-1202"


@final
class FingerprintError(ModelError, TypeError):
    """Raised when a value has no stable canonical bytes."""

    code = "KVS-1203"


@final
class BundleError(ModelError):
    """Raised when a bundle on disk is damaged, incomplete or of another format."""

    code = "KVS-1204"


@final
class NotRepeatableError(ModelError):
    """Raised when a stage gives other bits for the same row in another run or company."""

    code = "KVS-1205"


@final
class OutputMismatchError(ModelError):
    """Raised when a stage returns other rows, shapes or dtypes than its graph promises."""

    code = "KVS-1206"


@final
class WeightsUnavailableError(ModelError):
    """Raised when a worker finds a stage's weights nowhere; a later try, or another way, can succeed."""

    exit_code = 75
    code = "KVS-1207"


@final
class LossyCodecError(ModelError):
    """Raised when a lossy codec changes the model's predictions, or its outputs by too much."""

    code = "KVS-1210"


@final
class CacheRequiredError(KvsparkError):
    """Raised when the caller requires the cache and it cannot be reached."""

    exit_code = 69
    code = "KVS-1300"


class OutputError(KvsparkError):
    """Raised when the output cannot be written or published."""

    exit_code = 73
    code = "KVS-1400"


@final
class ValidationError(OutputError):
    """Raised when the rows that were written are not the rows that were read."""

    code = "KVS-1401"


@final
class RunLockedError(KvsparkError):
    """Raised when another run holds the target; a later try can succeed."""

    exit_code = 75
    code = "KVS-1402"


class StoreError(KvsparkError):
    """Raised by a store; the cache turns it into a miss and counts it."""

    code = "KVS-1500"


@final
class StoreUnavailableError(StoreError):
    """Raised when a store does not answer: refused, reset, hung, loading, cluster down."""

    code = "KVS-1501"


@final
class StoreFullError(StoreError):
    """Raised when a store takes no writes: out of memory, read-only, disk full."""

    code = "KVS-1502"


@final
class StoreRefusedError(StoreError):
    """Raised when a store refuses the client: password, permission, TLS."""

    code = "KVS-1503"
