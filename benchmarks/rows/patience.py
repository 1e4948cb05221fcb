"""`impatient` on waits that end in time, against `asyncio.timeout`; and its cost when very many wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from async_plus import impatient
from benchmarks.measure import Contest, Ratio, Side, added
from benchmarks.rows.workloads import Case, Sizes, Work, cases, peers, yields_once

__all__ = ["contests"]

_QUICK = (
    Ratio("impatient / timeout, added", 0.3, ("impatient", "timeout", "bare"), added),
    Ratio("@impatient / timeout, added", 0.6, ("@impatient", "timeout", "bare"), added),
    Ratio("impatient / wait_for, added", None, ("impatient", "wait_for", "bare"), added),
    Ratio("impatient / anyio.fail_after, added", None, ("impatient", "anyio.fail_after", "bare"), added),
    Ratio("impatient / quattro.fail_after, added", None, ("impatient", "quattro.fail_after", "bare"), added),
)


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield a contest for each size and workload, and the one of the many waits."""
    for case in cases(sizes, "awaits", budgeted=True):
        yield _quick(case)
    yield _growth(sizes.few, sizes.many)


def _quick(case: Case) -> Contest:
    work, count = case.work, case.count
    decorated = impatient(log_after=5)(work)

    async def ours() -> None:
        for _ in range(count):
            await impatient(work(), log_after=5)

    async def decorator() -> None:
        for _ in range(count):
            await decorated()

    async def timeout() -> None:
        for _ in range(count):
            async with asyncio.timeout(5):
                await work()

    async def bare() -> None:
        for _ in range(count):
            await work()

    sides: dict[str, Side] = {"impatient": ours, "@impatient": decorator, "timeout": timeout, "bare": bare}
    found, missing = peers("anyio", "quattro")
    anyio: Any = found.get("anyio")
    quattro: Any = found.get("quattro")

    async def wait_for() -> None:
        for _ in range(count):
            await asyncio.wait_for(work(), 5)

    async def fail_after_of_anyio() -> None:
        for _ in range(count):
            with anyio.fail_after(5):
                await work()

    async def fail_after_of_quattro() -> None:
        for _ in range(count):
            with quattro.fail_after(5):
                await work()

    sides |= {
        "wait_for": wait_for,
        "anyio.fail_after": fail_after_of_anyio,
        "quattro.fail_after": fail_after_of_quattro,
    }
    absent = {side: missing[name] for side in sides if (name := side.partition(".")[0]) in missing}
    return Contest(
        case.title,
        sides,
        _QUICK,
        case.often,
        absent,
        group="Watching the time of an await",
        limit="bare",
        count=count,
        binding=case.binding,
    )


def _growth(few: int, many: int) -> Contest:
    """Let tasks wait at the same time, each once: what does one cost among many, compared with among few?"""

    async def wait_impatiently() -> None:
        await impatient(yields_once(), log_after=60)

    async def together(work: Work, count: int) -> None:
        tasks = [asyncio.create_task(work()) for _ in range(count)]
        for task in tasks:
            await task

    async def impatient_many() -> None:
        await together(wait_impatiently, many)

    async def impatient_few() -> None:
        await together(wait_impatiently, few)

    async def bare_many() -> None:
        await together(yields_once, many)

    async def bare_few() -> None:
        await together(yields_once, few)

    def growth(our_many: float, our_few: float, their_many: float, their_few: float) -> float:
        return (our_many / our_few) / (their_many / their_few)

    sides = {
        "impatient, many": impatient_many,
        "impatient, few": impatient_few,
        "bare tasks, many": bare_many,
        "bare tasks, few": bare_few,
    }
    ratio = Ratio("growth of impatient / of bare tasks", 1.5, tuple(sides), growth)
    return Contest(f"{many:,} waits over {few:,}", sides, (ratio,))
