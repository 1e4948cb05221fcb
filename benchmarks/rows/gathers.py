"""`try_gather` against the other ways to run things together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from async_plus import try_gather
from benchmarks.measure import Contest, Ratio, Side, divided
from benchmarks.rows.workloads import Case, Sizes, cases, peers

__all__ = ["contests"]

_LIMIT = "bare limit"


def _ratio(peer: str, budget: float | None, less: str = "") -> Ratio:
    return Ratio(f"try_gather / {peer}", budget, ("try_gather", peer), divided, less)


_RATIOS = (
    _ratio("asyncio.gather", 0.9, "the others run on after a failure"),
    _ratio("TaskGroup", 1.0),
    _ratio(_LIMIT, 1.5, "no error is handled"),
    _ratio("quattro.gather", None),
    _ratio("anyio.gather", None),
    _ratio("aiotools.gather_safe", None, "a failure stops nothing"),
)


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield a contest for each size and workload."""
    for case in cases(sizes, "children"):
        yield _contest(case)


def _contest(case: Case) -> Contest:
    work, count = case.work, case.count

    async def ours() -> None:
        await try_gather(*[work() for _ in range(count)])

    async def gather() -> None:
        await asyncio.gather(*[work() for _ in range(count)])

    async def task_group() -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work()) for _ in range(count)]
        [task.result() for task in tasks]

    async def bare() -> None:
        # What no code can undercut: no error is handled, and a failure leaves the others behind.
        tasks = [asyncio.create_task(work()) for _ in range(count)]
        for task in tasks:
            await task

    sides: dict[str, Side] = {"try_gather": ours, "asyncio.gather": gather, "TaskGroup": task_group, _LIMIT: bare}
    found, missing = peers("anyio", "aiotools", "quattro")
    anyio: Any = found.get("anyio")
    aiotools: Any = found.get("aiotools")
    quattro: Any = found.get("quattro")

    async def by_anyio() -> None:
        await anyio.gather(*[work() for _ in range(count)])

    async def by_aiotools() -> None:
        await aiotools.gather_safe([work() for _ in range(count)])

    async def by_quattro() -> None:
        await quattro.gather(*[work() for _ in range(count)])

    sides |= {"anyio.gather": by_anyio, "aiotools.gather_safe": by_aiotools, "quattro.gather": by_quattro}
    absent = {side: missing[name] for side in sides if (name := side.partition(".")[0]) in missing}
    return Contest(
        case.title,
        sides,
        _RATIOS,
        case.often,
        absent,
        group="Running together",
        limit=_LIMIT,
        count=count,
        binding=case.binding,
    )
