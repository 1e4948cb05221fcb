"""What the children of every contest do, and how many there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["QUICK", "SIZES", "Case", "Sizes", "Work", "cases", "yields_once"]

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


async def returns_at_once() -> None:
    """Be done without having waited."""


async def yields_once() -> None:
    """Let everything else run once."""
    await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many children there are, and how many of them wait at a time where that is the point."""

    children: tuple[int, ...]
    few: int
    many: int


SIZES = Sizes(children=(100, 10_000), few=1_000, many=100_000)
QUICK = Sizes(children=(100,), few=1_000, many=10_000)


@dataclass(frozen=True, slots=True)
class Case:
    """So many children of one kind."""

    title: str
    work: Work
    count: int

    @property
    def often(self) -> int:
        """How much more often than the largest it must run, to last for about as long: a machine has slow seconds."""
        return max(1, 1_000 // self.count)


def cases(sizes: Sizes, unit: str) -> Iterator[Case]:
    """Yield each size with each workload; *unit* is what to call the children."""
    for count in sizes.children:
        yield Case(f"{count:,} {unit} that return at once", returns_at_once, count)
        yield Case(f"{count:,} {unit} that yield once", yields_once, count)
