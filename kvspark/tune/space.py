"""What is searched: options of a conf, the choices of each, and one choice of each together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TypeAlias, final

Plain: TypeAlias = "int | str | bool | None"
Trail: TypeAlias = tuple[str, ...]

AS_IT_IS = "as it is"
"""The first choice of every option: what the conf says already."""


@final
@dataclass(frozen=True, slots=True)
class Choice:
    """One value of an option."""

    text: str
    """What a person reads: `2`, `zstd`, `32 MiB`."""
    sets: tuple[tuple[Trail, Plain], ...] = ()
    """The conf keys that it sets, from the top, and their values; none for what the conf says already."""
    changes_bits: bool = False
    """True if results have other last bits, so that all entries are computed anew."""


@final
@dataclass(frozen=True, slots=True)
class Option:
    """One setting and the values that are tried."""

    name: str
    choices: tuple[Choice, ...]
    """The first is the conf as it is."""


@final
@dataclass(frozen=True, slots=True)
class Candidate:
    """One choice of each option."""

    space: Space
    places: tuple[int, ...]
    """By option, which of its choices."""

    @property
    def changed(self) -> tuple[tuple[Option, Choice], ...]:
        """What differs from the conf as it is."""
        pairs = zip(self.space.options, self.places, strict=True)
        return tuple((option, option.choices[place]) for option, place in pairs if place)

    @property
    def sets(self) -> dict[Trail, Plain]:
        """The conf keys of all its choices."""
        return {trail: value for _, choice in self.changed for trail, value in choice.sets}

    @property
    def changes_bits(self) -> bool:
        """True if one of its choices does."""
        return any(choice.changes_bits for _, choice in self.changed)

    @property
    def told(self) -> str:
        """Its choices in words: `threads a task 2, overlap 32 MiB`."""
        return ", ".join(f"{option.name} {choice.text}" for option, choice in self.changed) or (
            AS_IT_IS
        )

    @property
    def weight(self) -> tuple[bool, int]:
        """What it asks of a person: other bits first, then how much it changes."""
        return self.changes_bits, len(self.changed)


@final
@dataclass(frozen=True, slots=True)
class Space:
    """All candidates."""

    options: tuple[Option, ...]

    @property
    def size(self) -> int:
        """How many candidates there are, the conf as it is among them."""
        return prod(len(option.choices) for option in self.options)

    @property
    def baseline(self) -> Candidate:
        """The conf as it is."""
        return self.candidate((0,) * len(self.options))

    def candidate(self, places: tuple[int, ...]) -> Candidate:
        """The candidate with these choices."""
        return Candidate(self, places)

    def singles(self) -> Iterator[Candidate]:
        """The conf with one choice changed, each in turn: what an option does alone."""
        for option, each in enumerate(self.options):
            for place in range(1, len(each.choices)):
                places = [0] * len(self.options)
                places[option] = place
                yield self.candidate(tuple(places))

    def all(self) -> Iterator[Candidate]:
        """Every candidate."""
        for places in product(*(range(len(option.choices)) for option in self.options)):
            yield self.candidate(places)
