"""`kvspark keygen` makes and rotates sealing keys."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Make or rotate the keys that entries are sealed with.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--primary", is_flag=True, help="Seal with the new key from now on.")
def keygen(file: Path, *, primary: bool) -> None:
    """Make the file FILE with keys to seal entries with, or add a key to it.

    A key that is added opens entries, once the file is on every machine; `--primary` makes it the one
    that seals. A key whose line is removed is retired: what it sealed cannot be read any more.
    """
    from kvspark.cache.seal.keyring import write_keys

    number = write_keys(file, is_primary=primary)
    if number == 1:
        told = "name it as cache.sealing.key_file, and keep it secret"
    else:
        told = "it seals" if primary else "it opens entries, and seals none"
        told += "; put the file on every machine"
    click.echo(f"{file} has key {number}; {told}")
