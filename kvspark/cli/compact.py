"""`kvspark compact` merges the segments of a cold tier."""

from __future__ import annotations

import click


@click.command()
@click.argument("url")
def compact(url: str) -> None:
    """Merge the segments of the cold tier at URL, and drop what has ended or was deleted."""
    from kvspark.cache.store.compaction import compact as merge
    from kvspark.cache.url import cold_folder

    done = merge(cold_folder(url))
    click.echo(
        f"{done.segments_before} segments became {done.segments_after}; {done.entries} entries "
        f"kept, {done.dropped} dropped"
    )
