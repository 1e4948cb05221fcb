"""Contests: the sides, the ratios asked of them, and the rounds in which their times are taken."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["DEFAULT", "LOOPS", "Contest", "Ratio", "Result", "Side", "added", "divided", "measure"]

DEFAULT = "default"


def _eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


# Those that this Python and this machine have.
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {DEFAULT: asyncio.new_event_loop}
if sys.version_info >= (3, 12):
    LOOPS["eager"] = _eager_loop
try:
    import uvloop
except ImportError:
    pass
else:
    LOOPS["uvloop"] = uvloop.new_event_loop

# Timed in each turn, after one that is not.
_RUNS = 2

# The work of one run. It returns nothing, or the seconds if it takes its own time: in another process, say.
Side: TypeAlias = Callable[[], Coroutine[Any, Any, "float | None"]]


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure, maybe with a budget: *formula* of the times of *sides*, in that order.

    A peer may do *less* than we do, which its time must be seen with.
    """

    name: str
    budget: float | None
    sides: tuple[str, ...]
    formula: Callable[..., float]
    less: str = ""


@dataclass(frozen=True, slots=True)
class Contest:
    """Sides that are measured together, in *often* times as many rounds as one that takes long.

    A peer that is not installed is told of in *missing*, by the side's name: the ratios that need it are left out. So
    are those that do not work on one kind of loop, by *unfit*.

    Contests of one *group* share a chart, on which the time of the side *limit* is drawn as a line. One run does the
    same *count* times. Budgets hold if the contest is *binding*: they were made for some sizes only.
    """

    case: str
    sides: Mapping[str, Side]
    ratios: Collection[Ratio]
    often: float = 1
    missing: Mapping[str, str] = field(default_factory=dict)
    unfit: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    group: str = ""
    limit: str = ""
    count: int = 1
    binding: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """A measured ratio, and the seconds it comes from; without them, why there are none."""

    name: str
    case: str
    budget: float | None
    seconds: Mapping[str, float]
    ratio: float | None
    missing: str = ""
    less: str = ""
    group: str = ""
    limit: str = ""
    count: int = 1
    loop: str = DEFAULT

    @property
    def kept(self) -> bool | None:
        """Tell whether the budget was kept; None if it was not measured, or there is none."""
        return None if self.ratio is None or self.budget is None else self.ratio <= self.budget


def divided(ours: float, theirs: float) -> float:
    """Our time over theirs."""
    return ours / theirs


def added(ours: float, theirs: float, bare: float) -> float:
    """The time that we add to the bare work, over the time that they add."""
    return (ours - bare) / (theirs - bare)


def measure(
    contest: Contest, rounds: int, wanted: Callable[[Ratio], bool] = lambda _: True, loop: str = DEFAULT
) -> Iterator[Result]:
    """Run *rounds* rounds of the sides that the *wanted* ratios need, and yield a result for each of these.

    They run on the kind of *loop* that is a key of `LOOPS`. Budgets are for the default one.
    """
    ratios = [ratio for ratio in contest.ratios if wanted(ratio)]
    missing = {**contest.missing, **contest.unfit.get(loop, {})}
    possible = [ratio for ratio in ratios if missing.keys().isdisjoint(ratio.sides)]
    names = dict.fromkeys(name for ratio in possible for name in ratio.sides)
    sides = {name: contest.sides[name] for name in names}
    best: dict[str, float] = {}
    if sides:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            best = runner.run(_best(sides, max(1, round(rounds * contest.often))))
    binding = contest.binding and loop == DEFAULT
    for ratio in ratios:
        measured = ratio in possible
        seconds = {name: best[name] for name in ratio.sides} if measured else {}
        yield Result(
            name=ratio.name,
            case=contest.case,
            budget=ratio.budget if binding else None,
            seconds=seconds,
            ratio=ratio.formula(*seconds.values()) if measured else None,
            missing="; ".join(text for name, text in missing.items() if name in ratio.sides),
            less=ratio.less,
            group=contest.group,
            limit=contest.limit,
            count=contest.count,
            loop=loop,
        )


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
