"""What came out where a model's own runtime ran beside kvspark: plain values, and their text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from kvspark.wording import count_of

Verdict = Literal["equal bits", "within bound", "differs", "nothing compared"]
"""`within bound`: other last bits, which is what another batch shape gives. `differs`: wrong rows."""

_SHOWN = 3


@final
@dataclass(frozen=True, slots=True)
class OutputCheck:
    """One output, over all rows that have it on both sides."""

    name: str
    verdict: Verdict
    largest: float
    """The largest absolute difference; infinite where one side is not finite, or of another shape."""
    bound: float
    """The least that was allowed for a row, in the output's own units; 0 for whole numbers."""
    first_row: int | None
    """The first row that differs by more than its bound."""

    def line(self) -> str:
        """The check on one line."""
        told = f"{self.name}: {self.verdict}"
        if self.verdict not in ("equal bits", "nothing compared"):
            told += f", largest difference {self.largest:.3g} (bound {self.bound:.3g})"
        return told if self.first_row is None else f"{told}, first in row {self.first_row}"


@final
@dataclass(frozen=True, slots=True)
class OneSided:
    """A row that has a result on one side only; holds nothing of the row itself."""

    row: int
    has_result: Literal["kvspark", "own runtime"]
    error: str
    """What the other side raised, by its class."""

    def line(self) -> str:
        """The row on one line."""
        return f"row {self.row}: only {self.has_result} has a result ({self.error})"


@final
@dataclass(frozen=True, slots=True)
class Verification:
    """A model's own runtime beside kvspark, on the same rows."""

    runtime: str
    """The own runtime that was used."""
    is_independent: bool
    """False where it is the bundle itself, called with one unpadded row: weaker, since it shares what the
    bundle got wrong when it was made."""
    rows: int
    """Rows that were given."""
    compared: int
    """Rows with a result on both sides."""
    bad_on_both: int
    """Rows without a result on either side."""
    one_sided: tuple[OneSided, ...]
    """Rows with a result on one side only."""
    outputs: tuple[OutputCheck, ...]
    note: str = ""
    """Why the own runtime could not be used, where it could not."""

    @property
    def verdict(self) -> Verdict:
        """`equal bits`, `within bound` or `differs`; `nothing compared` where no row has two results."""
        found = {check.verdict for check in self.outputs}
        if self.one_sided or "differs" in found:
            return "differs"
        if not self.compared:
            return "nothing compared"
        return "within bound" if "within bound" in found else "equal bits"

    @property
    def ok(self) -> bool:
        """True if no row is another than the own runtime's; also where no row has a result."""
        return self.verdict != "differs"

    @property
    def first_row(self) -> int | None:
        """The first row that differs."""
        found = [c.first_row for c in self.outputs if c.first_row is not None]
        return min([*found, *(one.row for one in self.one_sided)], default=None)

    def short(self) -> str:
        """The verdict in a few words, on one line."""
        rows = f"{self.compared:,} of {count_of(self.rows, 'row')}"
        largest = [check.largest for check in self.outputs if check.verdict == "within bound"]
        far = f", largest difference {max(largest):.3g}" if largest else ""
        return f"{self.verdict}: {rows} beside {self.runtime}{far}"

    def __str__(self) -> str:
        told = [
            f"{self.verdict}: {self.compared:,} of {count_of(self.rows, 'row')} beside {self.runtime}"
        ]
        if not self.is_independent:
            told.append("  weaker: what the bundle got wrong when it was made is not seen")
        if self.note:
            told.append(f"  {self.note}")
        if self.bad_on_both:
            told.append(f"  {count_of(self.bad_on_both, 'row')} bad on both sides")
        told += [f"  {check.line()}" for check in self.outputs]
        if self.verdict == "differs" and self.is_independent:
            told.append("  if the weights were changed after the model was made, make it again")
        told += [f"  {one.line()}" for one in self.one_sided[:_SHOWN]]
        if len(self.one_sided) > _SHOWN:
            told.append(
                f"  and {count_of(len(self.one_sided) - _SHOWN, 'more row')} with one result"
            )
        return "\n".join(told)
