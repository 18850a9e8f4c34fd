"""Going back to a version that is kept, in one commit."""

from __future__ import annotations

from contextlib import suppress

from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    AssertTableUUID,
    TableUpdate,
)

from kvspark.errors import OutputError
from kvspark.table.iceberg.catalog_table import TRIES, CatalogTable, StaleError
from kvspark.table.iceberg.leftovers import Leftovers
from kvspark.table.iceberg.state import State, named
from kvspark.table.publish.publisher import Published


def roll_back(catalog: CatalogTable, version: Published) -> None:
    """Makes `version` what readers find, and what they found the newest version. No attempt that runs can commit then.

    Raises:
        OutputError: it is not kept, or not whole, or other writers change the table all the time.
    """
    for _ in range(TRIES):
        with suppress(StaleError):
            _roll_back(catalog, version)
            return
    raise OutputError(
        f"{catalog.url}: other writers changed the table {TRIES} times in a row; the table is as it was"
    )


def _roll_back(catalog: CatalogTable, version: Published) -> None:
    table = catalog.load()
    state = None if table is None else State(table)
    kept = () if state is None else state.kept
    chosen = next((e for e in kept if f"{catalog.url}@{e.snapshot_id}" == version.url), None)
    if table is None or state is None or chosen is None:
        raise OutputError(f"{catalog.url} keeps no output of {version.run_id}; nothing was changed")
    if not Leftovers(catalog, table).is_whole(chosen):
        raise OutputError(
            f"the output of {version.run_id} in {catalog.url} is not whole any more; the table is as it was, choose another "
            "version"
        )
    before = kept if state.main is None else (state.main, *kept)
    others = [e.snapshot_id for e in before if e.snapshot_id != chosen.snapshot_id]
    updates: list[TableUpdate] = [
        named(MAIN_BRANCH, chosen.snapshot_id, SnapshotRefType.BRANCH),
        *state.keeping(others, main=chosen.snapshot_id),
    ]
    conditions = (
        AssertTableUUID(uuid=table.metadata.table_uuid),
        AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=table.metadata.current_snapshot_id),
    )
    catalog.commit(table, conditions, updates)
