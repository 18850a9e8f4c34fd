"""The objects at a URL, and the place for tasks there, by its scheme."""

from __future__ import annotations

from kvspark.table.objects.objects import Objects
from kvspark.table.objects.storage import Storage
from kvspark.table.place.place import OpenedPlace


def open_objects(storage: Storage) -> Objects:
    """The objects below `storage`, of an object store or of HDFS.

    Raises:
        UsageError: the URL or an option is none that the client knows, or the client is not installed.
    """
    if storage.is_hdfs:
        from kvspark.table.hdfs.hdfs_objects import HdfsObjects

        return HdfsObjects(storage)
    from kvspark.table.objects.object_store import ObjectStore

    return ObjectStore(storage)


def place_at(storage: Storage) -> OpenedPlace:
    """The objects below `storage` as a place, which is not open yet."""
    if storage.is_hdfs:
        from kvspark.table.place.hdfs_place import HdfsPlace

        return HdfsPlace(storage)
    from kvspark.table.place.object_place import ObjectPlace

    return ObjectPlace(storage)
