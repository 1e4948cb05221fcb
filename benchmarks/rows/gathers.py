"""`try_gather` against the other ways to run things together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from async_plus import try_gather
from benchmarks.measure import Contest, Ratio, divided
from benchmarks.rows.workloads import Case, Sizes, cases

__all__ = ["contests"]

_RATIOS = (
    Ratio("try_gather / asyncio.gather", 0.9, ("try_gather", "asyncio.gather"), divided),
    Ratio("try_gather / TaskGroup", 1.0, ("try_gather", "TaskGroup"), divided),
    Ratio("try_gather / bare limit", 1.5, ("try_gather", "bare limit"), divided),
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

    sides = {"try_gather": ours, "asyncio.gather": gather, "TaskGroup": task_group, "bare limit": bare}
    return Contest(case.title, sides, _RATIOS, case.often)
