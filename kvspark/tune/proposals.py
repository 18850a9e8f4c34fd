"""What is tried next: each change alone, then what Optuna makes of the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from kvspark.errors import UsageError
from kvspark.tune.space import Candidate, Space

_ASKED = 50
"""How often Optuna is asked for a candidate that was not tried; then the first one in order is."""


def check_optuna() -> None:
    """Does nothing if Optuna is there.

    Raises:
        UsageError: it is not; says how to install it.
    """
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError:
        raise UsageError(
            "kvspark tune searches with optuna, which is not installed; run pip install 'kvspark[tune]'; "
            "nothing was tried"
        ) from None


@final
class Proposals:
    """Candidates of `space`, none of them twice; the same ones for the same `seed` and the same answers."""

    def __init__(self, space: Space, *, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._rates: dict[tuple[int, ...], float | None] = {}
        self._singles = list(space.singles())
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=1)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._distributions: Mapping[str, Any] = {
            str(place): optuna.distributions.CategoricalDistribution(range(len(option.choices)))
            for place, option in enumerate(space.options)
        }

    def next(self) -> Candidate | None:
        """One that was not tried; None if all were."""
        for single in self._singles:
            if single.places not in self._rates:
                return single
        if len(self._rates) >= self._space.size:
            return None
        return self._asked() or next(
            each for each in self._space.all() if each.places not in self._rates
        )

    def tell(self, candidate: Candidate, rate: float | None) -> None:
        """Says what `candidate` came to: rows a second, None if it failed."""
        from optuna.trial import TrialState, create_trial

        self._rates[candidate.places] = rate
        self._study.add_trial(
            create_trial(
                state=TrialState.FAIL if rate is None else TrialState.COMPLETE,
                params={str(place): choice for place, choice in enumerate(candidate.places)},
                distributions=dict(self._distributions),
                value=rate,
            )
        )

    def _asked(self) -> Candidate | None:
        from optuna.trial import TrialState

        for _ in range(_ASKED):
            trial = self._study.ask(dict(self._distributions))
            places = tuple(trial.params[str(place)] for place in range(len(self._space.options)))
            # What is measured comes by `tell`; this one was only asked for.
            self._study.tell(trial, state=TrialState.FAIL)
            if places not in self._rates:
                return self._space.candidate(places)
        return None
