"""`kvspark compact` merges the segments of a cold tier."""

from __future__ import annotations

import click

from kvspark.wording import count_of


@click.command(short_help="Merge the segments of a cold tier.")
@click.argument("url")
def compact(url: str) -> None:
    """Merge the segments of the cold tier at URL, and drop what has ended or was deleted."""
    from kvspark.store.files.compaction import compact as merge
    from kvspark.store.opening.url import cold_folder

    done = merge(cold_folder(url))
    click.echo(
        f"{count_of(done.segments_before, 'segment')} became {done.segments_after:,}; "
        f"{count_of(done.entries, 'entry')} kept, {done.dropped:,} dropped"
    )
