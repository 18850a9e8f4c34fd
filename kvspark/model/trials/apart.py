"""May the inputs of one row have lengths of their own: a question and a document, a source and a target?

A model says so where it names several lengths: other symbols of an exported graph, other dimensions of an ONNX
file. Names alone prove nothing, files have one for each input, so rows of several lengths are tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from kvspark.model.bundle.bundle import Bundle
from kvspark.model.trials.attempt import attempt
from kvspark.model.trials.captured import Captured
from kvspark.model.trials.chained import Chained
from kvspark.model.trials.rounding import difference
from kvspark.model.trials.trial_values import Array, TrialValues, sources_of

_MORE = ((3, 9), (9, 4), (0, 17))
"""Two lengths each, above the least one that every input takes: for one group, and for all others."""


def with_lengths_apart(
    bundle: Bundle, examples: Mapping[str, Array], captured: Captured, stages: Chained
) -> Bundle:
    """`bundle`, whose rule of lengths knows which inputs have one of their own; itself if none has."""
    groups = captured.length_groups
    if len(groups) < 2 or not _are_inputs(bundle):
        return bundle
    trial = _Trial(bundle, stages, captured, TrialValues(sources_of(bundle.stages), examples))
    least, most = max(2, bundle.length_rule.shortest), bundle.length_rule.longest
    room = max(map(max, _MORE)) if most is None else most - least
    more = [(min(one, room), min(other, room)) for one, other in _MORE]
    if room < 1 or not trial.takes([(least + one, least + other) for one, other in more]):
        return bundle
    while least and trial.takes([(least - 1, least + min(6, room))]):
        least -= 1
    rule = replace(
        bundle.length_rule,
        groups=groups,
        shortest_apart=least,
        longest_apart=captured.longest_apart if any(captured.longest_apart) else (),
    )
    return bundle.with_length_rule(rule)


def _are_inputs(bundle: Bundle) -> bool:
    """True if whatever varies in length is an input: a result of one stage that another takes has one length only."""
    sources = (source for stage in bundle.stages if stage.is_batched for source in stage.sources)
    return all(source.stage is None for source in sources if None in source.tensor.shape)


@final
@dataclass(frozen=True, slots=True)
class _Trial:
    """The trial of one model."""

    bundle: Bundle
    stages: Chained
    captured: Captured
    values: TrialValues

    def takes(self, lengths: Sequence[tuple[int, int]]) -> bool:
        """True if rows in which one group has the first of two lengths, and all others have the second, are right."""
        count = len(self.captured.length_groups)
        # Each is once the only one of its length.
        return all(self._is_taken(pair, place) for pair in lengths for place in range(count))

    def _is_taken(self, pair: tuple[int, int], first: int) -> bool:
        ones = self.captured.length_groups[first]
        made = [self.values.rows("example", length) for length in pair]
        rows = {key: made[key[1] not in ones][key] for key in made[0]}
        specs, own = self.bundle.outputs, self.captured.own
        found = attempt(self.stages, specs, rows)
        if found is None or own is None:
            return found is not None
        right = attempt(own, specs, rows)
        return right is not None and all(
            difference(spec, a, b, [a], is_half=self.captured.is_half, each=False) is None
            for spec, a, b in zip(specs, right, found, strict=True)
        )
