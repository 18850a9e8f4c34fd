"""What a job asks of its input, whatever that is: one class for each kind of source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from kvspark.spark.sources.input.split_rows import SplitRows
from kvspark.table.input.pinned_file import PinnedFile, digest_of
from kvspark.table.input.pinning import check_unchanged
from kvspark.table.merge.row_ids import RowIds


class FoundInput(ABC):
    """An input as it was when the run began, found without a session; a run reads that and nothing newer."""

    @property
    @abstractmethod
    def schema(self) -> StructType | None:
        """Its columns as Spark will have them; None where only Spark can tell.

        The type of a column that only Spark can tell is `UNKNOWN` of `footer_schema`.
        """

    @property
    @abstractmethod
    def pinned(self) -> Sequence[PinnedFile]:
        """The files that are read, as they were found; none where nobody can say."""

    @property
    def files(self) -> Sequence[str]:
        """The files that are read, by path or URL; empty where there are none, or nobody can say."""
        return [file.name for file in self.pinned]

    @property
    def empty_files(self) -> int:
        """How many files hold no rows since they have no bytes; they are none of `files`."""
        return 0

    @property
    def version(self) -> str | None:
        """What says which rows are read, where that is more than a list of files: `version 12` of a table."""
        return None

    @property
    def since(self) -> str | None:
        """The version since which rows were added that are read; None where all of `version` are."""
        return None

    @property
    def changed(self) -> RowIds | None:
        """The ids of the rows that were changed or removed `since`; None where none are known to be."""
        return None

    @property
    def part(self) -> str | None:
        """The same for two runs that take the same rows of the same table, whatever it has then; None where nobody can say."""
        return None

    @property
    def digest(self) -> str | None:
        """The same for two runs that read the same files; None where nobody can say."""
        return digest_of(self.pinned)

    @property
    @abstractmethod
    def rows(self) -> int | None:
        """How many rows `read` gives; None if that is not known before they are read."""

    @abstractmethod
    def refuse_known_nulls(self, columns: Sequence[str]) -> bool:
        """True if it is known, without reading, that no row is null in one of `columns`; False if it is not known.

        Raises:
            DataError: it is known that a row is; names the column and the place.
        """

    @abstractmethod
    def read(self, spark: SparkSession) -> DataFrame:
        """Its rows, before the filter of the conf. The same rows are in the same partition whenever they are read.

        Raises:
            DataError, SchemaError: what only Spark can tell is wrong.
        """

    def placed(self, spark: SparkSession) -> DataFrame | None:
        """`read` with the columns `PLACES` behind its own: the same rows in the same partitions.

        None where rows have no places, or Spark reads the files itself and can be asked at any time.
        """
        del spark
        return None

    def splits(self, spark: SparkSession) -> SplitRows | None:
        """The rows of `read` as workers read them; None where Spark does, or has to do something to them.

        Raises:
            DataError, SchemaError: as `read`.
        """
        del spark
        return None

    @property
    @abstractmethod
    def has_places(self) -> bool:
        """True if each row can be named by a file and its place there."""

    def check_unchanged(self) -> None:
        """Does nothing if what was read is still what was found.

        Raises:
            DataError: something was written or removed meanwhile, or cannot be looked at; names it.
            SecretError: the object store refuses the credentials.
        """
        check_unchanged(self.pinned)
