"""Who decides what a run caches: what is measured before it, the conf, or the rule."""

from __future__ import annotations

from collections.abc import Iterable

from kvspark.config.job import JobConfig

LEAST_ROWS = 10_000
"""A run of fewer goes by rule: at 10 us a row and stage, what a wrong choice loses is less than 0.1 s."""

_RULE = "by rule"


def is_measured(config: JobConfig, rows: int) -> bool:
    """True if a run of `rows` rows measures before it chooses, where its store answers."""
    return config.cache is not None and config.plan.mode == "measured" and rows >= LEAST_ROWS


def decider(config: JobConfig, stage: str) -> str:
    """What decides for `stage`, where nothing is measured."""
    if stage in config.plan.stages:
        return f"as plan.stages.{stage} says"
    return "as plan.mode says" if config.plan.mode == "off" else _RULE


def pinned_by(config: JobConfig, stages: Iterable[str], rows: int) -> dict[str, str]:
    """What decides for those of `stages` for which no measurement of a run of `rows` rows does, in words."""
    measured = is_measured(config, rows)
    found = {}
    for name in stages:
        if name in config.plan.distinct_first:
            found[name] = "as plan.distinct_first says"
        elif name in config.plan.stages or not measured:
            found[name] = decider(config, name)
    if measured or config.plan.mode != "measured":
        return found
    few = f", which decides for fewer than {LEAST_ROWS:,} rows"
    return {name: f"{by}{few}" if by == _RULE else by for name, by in found.items()}


def told_decider(config: JobConfig, rows: int) -> str:
    """What decides in a run of `rows` rows, in words."""
    if is_measured(config, rows):
        return (
            "the run measures stages and store first, and may cache others (kvspark plan shows which); it does as above "
            "if the store does not answer"
        )
    if config.plan.mode == "measured":
        return f"as above: of fewer than {LEAST_ROWS:,} rows nothing is measured"
    return f"as above (plan.mode: {config.plan.mode})"
