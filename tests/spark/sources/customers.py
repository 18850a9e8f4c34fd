"""A table whose rows change, and an output that follows it: nights without Spark, whose model is a number's third."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from kvspark.config.table.input_table import InputConfig
from kvspark.spark.sources.by_workers.pinned_table import PinnedTable
from kvspark.spark.sources.find_input import find_input
from kvspark.table.input.growth import Growth
from kvspark.table.input.whole_file import rows_of
from tests.spark.sources.iceberg_tables import Lake
from tests.table.publish.merging import publish

SCHEMA = pa.schema([("id", pa.int64()), ("x", pa.float64()), ("day", pa.string())])
Rows = dict[int, float]


def rows(values: Mapping[int, float]) -> pa.Table:
    days = ["even" if n % 2 else None for n in values]
    return pa.table([list(values), list(values.values()), days], schema=SCHEMA)


class Customers(ABC):
    """A table whose rows change."""

    @property
    @abstractmethod
    def conf(self) -> dict[str, Any]: ...

    @abstractmethod
    def insert(self, table: pa.Table) -> None: ...

    @abstractmethod
    def change(self, row: int, x: float) -> None: ...

    @abstractmethod
    def remove(self, *ids: int) -> None: ...

    @abstractmethod
    def compact(self) -> None:
        """Writes the same rows to other files, where the client can."""


class DeltaCustomers(Customers):
    properties: Mapping[str, str] = {}
    by: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "customers")
        write_deltalake(
            self.path, rows({}), partition_by=[*self.by], configuration={**self.properties}
        )

    @property
    def conf(self) -> dict[str, Any]:
        return {"format": "delta", "paths": [self.path]}

    def insert(self, table: pa.Table) -> None:
        write_deltalake(self.path, table, mode="append")

    def change(self, row: int, x: float) -> None:
        DeltaTable(self.path).update(updates={"x": repr(x)}, predicate=f"id = {row}")

    def remove(self, *ids: int) -> None:
        DeltaTable(self.path).delete(f"id in ({', '.join(map(str, ids))})")

    def compact(self) -> None:
        DeltaTable(self.path).optimize.compact()


@final
class WithChangeData(DeltaCustomers):
    properties: Mapping[str, str] = {"delta.enableChangeDataFeed": "true"}


@final
class WithPartitions(DeltaCustomers):
    properties: Mapping[str, str] = {"delta.enableChangeDataFeed": "true"}
    by = ("day",)


@final
class PartitionsAlone(DeltaCustomers):
    by = ("day",)


@final
class IcebergCustomers(Customers):
    def __init__(self, folder: Path) -> None:
        self.lake = Lake(folder)
        self.table = self.lake.catalog.create_table("ns.t", SCHEMA)

    @property
    def conf(self) -> dict[str, Any]:
        return self.lake.conf

    def insert(self, table: pa.Table) -> None:
        self.table.append(table)

    def change(self, row: int, x: float) -> None:
        self.table.overwrite(rows({row: x}), f"id == {row}")

    def remove(self, *ids: int) -> None:
        for row in ids:
            self.table.delete(f"id == {row}")

    def compact(self) -> None:
        """pyiceberg does not."""


KINDS = [DeltaCustomers, WithChangeData, WithPartitions, IcebergCustomers]


@final
class Nights:
    """An output beside `customers`, and the nights that bring it up to date."""

    def __init__(self, customers: Customers, folder: Path, **asked: Any) -> None:
        self.customers = customers
        self.folder = folder / "scores"
        self.config = InputConfig(**{**customers.conf, **asked})
        self.read: PinnedTable | None = None

    def found(self, growth: Growth | None) -> PinnedTable:
        found = find_input(self.config, settings={}, columns=["x"], growth=growth)
        assert isinstance(found, PinnedTable)
        return found

    def run(self, run_id: str, *, again: bool = False) -> int:
        """How many rows a night has scored."""
        before, growth = self.read, None
        if before is not None and again:
            growth = Growth(before.since, before.version, before.part, ("id",))
        elif before is not None:
            growth = Growth(before.version, None, before.part, ("id",))
        found = self.found(growth)
        batches = [b for file in found.table_files for b in rows_of(file, SCHEMA)]
        table = pa.Table.from_batches(batches, schema=SCHEMA)
        assert table.num_rows == found.rows
        publish(self.folder, run_id, scored(table), found.changed)
        self.read = found
        return table.num_rows


def scored(table: pa.Table) -> pa.Table:
    made = pa.array([score(x) for x in table["x"].to_pylist()], pa.float64())
    return pa.table({"id": table["id"], "score": made})


def score(x: float) -> float:
    return x / 3 - 0.1
