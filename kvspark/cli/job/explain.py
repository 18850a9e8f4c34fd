"""`kvspark explain` says what an error code, a field of a report or a key of the conf means."""

from __future__ import annotations

import click


@click.command(short_help="Say what a code, a field or a conf key means.")
@click.argument("topic", required=False)
def explain(topic: str | None) -> None:
    """Say what TOPIC means, and what to do: KVS-1100, rows_in, timeout, cache.ttl_s, 65.

    An error code says its likely causes, what to do, whether anything was written, and its exit code. A
    list of all topics without one.
    """
    from kvspark.report import topics

    click.echo(topics.contents() if topic is None else topics.explain(topic))
