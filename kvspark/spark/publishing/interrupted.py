"""What is said of a target when a signal has interrupted the work on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvspark.spark.output.target import Target

if TYPE_CHECKING:
    from kvspark.spark.publishing.run_target import RunTarget


def interrupted_run(stage: str | None, target: RunTarget) -> str:
    """The line for a run that was interrupted in phase `stage`, once it has cleaned up."""
    became = "the new output is published" if target.is_published else "nothing was published"
    left = target.left()
    more = f"; {left} could not be removed, the next run removes it" if left else ""
    return f"interrupted in stage {stage or 'open'}; {became}{more}"


def interrupted_rollback(target: Target) -> str:
    """The line for a rollback."""
    became = (
        "it is done, the output was exchanged" if target.is_published else "nothing was changed"
    )
    return f"interrupted in rollback; {became}"
