"""`task_scope` and `launch_watched` against a TaskGroup and bare tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from async_plus import launch_watched, task_scope
from benchmarks.measure import Contest, Ratio, divided
from benchmarks.rows.workloads import Case, Sizes, cases

__all__ = ["contests"]

_SCOPE = (Ratio("task_scope / TaskGroup", 1.1, ("task_scope", "TaskGroup"), divided),)
_LAUNCH = (
    Ratio("launch_watched / create_task + callback", 1.3, ("launch_watched", "create_task + callback"), divided),
)


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield two contests for each size and workload."""
    for case in cases(sizes, "children"):
        yield _scope(case)
        yield _launch(case)


def _scope(case: Case) -> Contest:
    work, count = case.work, case.count

    async def ours() -> None:
        async with task_scope() as scope:
            for _ in range(count):
                scope.launch(work())
            await scope.wait(return_when=asyncio.ALL_COMPLETED)

    async def task_group() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(work())

    return Contest(case.title, {"task_scope": ours, "TaskGroup": task_group}, _SCOPE, case.often)


def _launch(case: Case) -> Contest:
    work, count = case.work, case.count

    async def ours() -> None:
        for _ in range(count - 1):
            launch_watched(work())
        # All the others end before the last one does.
        await launch_watched(work())

    def done(task: asyncio.Task[None]) -> None:
        """Do nothing: what is compared with is the least that a callback can cost."""

    async def bare() -> None:
        for _ in range(count - 1):
            asyncio.create_task(work()).add_done_callback(done)
        last = asyncio.create_task(work())
        last.add_done_callback(done)
        await last

    return Contest(case.title, {"launch_watched": ours, "create_task + callback": bare}, _LAUNCH, case.often)
