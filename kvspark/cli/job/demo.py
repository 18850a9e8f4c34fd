"""`kvspark demo` runs three nights on real text."""

from __future__ import annotations

from pathlib import Path

import click

from kvspark.spark.session.java import check_java


@click.command(short_help="Run three nights of a real scoring job.")
@click.option(
    "--nights-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Parquet nights of your own, with the columns id, text and label.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/demo"),
    show_default=True,
    help="The folder for the outputs and demo.json.",
)
def demo(nights_dir: Path | None, out: Path) -> int:
    """Run three nights of a real scoring job and show what each of them computed."""
    check_java(None)

    from kvspark.demo.nights.nights import run_demo

    return run_demo(nights_dir, out)
