"""`kvspark init` makes a project to start from."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Make a project to start from.")
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Make a project in FOLDER: a conf, a small table, a model script, a job, a crontab line and a DAG.

    A file that is there is never overwritten.
    """
    from kvspark.demo.project.project import make_project

    for name in make_project(folder):
        click.echo(folder / name)
    click.echo(f"next: python {folder / 'model.py'} && kvspark score {folder / 'conf/score.yaml'}")
