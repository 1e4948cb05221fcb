"""Contests: the sides, the ratios asked of them, and the rounds in which their times are taken."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["Contest", "Ratio", "Result", "Side", "added", "divided", "measure"]

# Timed in each turn, after one that is not.
_RUNS = 2

# The work of one run. It returns nothing, or the seconds if it takes its own time: in another process, say.
Side: TypeAlias = Callable[[], Coroutine[Any, Any, "float | None"]]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure with a budget: *formula* of the times of *sides*, in that order."""

    name: str
    budget: float
    sides: tuple[str, ...]
    formula: Callable[..., float]


@dataclass(frozen=True, slots=True)
class Contest:
    """Sides that are measured together, in *often* times as many rounds as one that takes long.

    A peer that is not installed is told of in *missing*, by the side's name: the ratios that need it are left out.
    """

    case: str
    sides: Mapping[str, Side]
    ratios: Collection[Ratio]
    often: int = 1
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """A measured ratio, and the seconds it comes from; without them, why there are none."""

    name: str
    case: str
    budget: float
    seconds: Mapping[str, float]
    ratio: float | None
    missing: str = ""

    @property
    def kept(self) -> bool | None:
        """Tell whether the budget was kept; None if it was not measured."""
        return None if self.ratio is None else self.ratio <= self.budget


def divided(ours: float, theirs: float) -> float:
    """Our time over theirs."""
    return ours / theirs


def added(ours: float, theirs: float, bare: float) -> float:
    """The time that we add to the bare work, over the time that they add."""
    return (ours - bare) / (theirs - bare)


def measure(contest: Contest, rounds: int, wanted: Callable[[Ratio], bool] = lambda _: True) -> Iterator[Result]:
    """Run *rounds* rounds of the sides that the *wanted* ratios need, and yield a result for each of these."""
    ratios = [ratio for ratio in contest.ratios if wanted(ratio)]
    possible = [ratio for ratio in ratios if contest.missing.keys().isdisjoint(ratio.sides)]
    names = dict.fromkeys(name for ratio in possible for name in ratio.sides)
    sides = {name: contest.sides[name] for name in names}
    best = asyncio.run(_best(sides, rounds * contest.often)) if sides else {}
    for ratio in ratios:
        if ratio in possible:
            seconds = {name: best[name] for name in ratio.sides}
            yield Result(ratio.name, contest.case, ratio.budget, seconds, ratio.formula(*seconds.values()))
        else:
            why = "; ".join(text for name, text in contest.missing.items() if name in ratio.sides)
            yield Result(ratio.name, contest.case, ratio.budget, {}, None, why)


async def _best(sides: Mapping[str, Side], rounds: int) -> dict[str, float]:
    best = dict.fromkeys(sides, float("inf"))
    order = list(sides)
    with _frozen():
        for _ in range(rounds):
            for name in order:
                await sides[name]()
                gc.collect()
                for _ in range(_RUNS):
                    best[name] = min(best[name], await _time(sides[name]))
            order.append(order.pop(0))
    return best


async def _time(side: Side) -> float:
    gc.disable()
    try:
        began = time.process_time()
        seconds = await side()
        ended = time.process_time()
    finally:
        gc.enable()
    return ended - began if seconds is None else seconds


@contextmanager
def _frozen() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
