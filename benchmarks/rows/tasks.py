"""`task_scope` and `launch_watched` against task groups of others and bare tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from async_plus import launch_watched, task_scope
from benchmarks.measure import Contest, Ratio, Side, divided
from benchmarks.rows.workloads import Case, Sizes, cases, peers

__all__ = ["contests"]

_LIMIT = "bare limit"


def _ratio(peer: str, budget: float | None, less: str = "") -> Ratio:
    return Ratio(f"task_scope / {peer}", budget, ("task_scope", peer), divided, less)


_SCOPE = (
    _ratio("TaskGroup", 1.1, "tells no launch site, checks no coroutine"),
    _ratio("anyio", None, "as TaskGroup"),
    _ratio("aiotools.TaskGroup", None, "as TaskGroup"),
    _ratio("aiotools.Supervisor", None, "tells of no failure"),
    _ratio("quattro.TaskGroup", None, "as TaskGroup"),
    _ratio("aiojobs.Scheduler", None, "waits 0.1 s for the cancelled"),
    _ratio(_LIMIT, None, "no error is handled"),
)
_LAUNCH = (
    Ratio(
        "launch_watched / create_task + callback",
        1.3,
        ("launch_watched", "create_task + callback"),
        divided,
        "keeps and reports nothing",
    ),
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

    async def bare() -> None:
        tasks = [asyncio.create_task(work()) for _ in range(count)]
        for task in tasks:
            await task

    sides: dict[str, Side] = {"task_scope": ours, "TaskGroup": task_group, _LIMIT: bare}
    found, missing = peers("anyio", "aiojobs", "aiotools", "quattro")
    anyio: Any = found.get("anyio")
    aiojobs: Any = found.get("aiojobs")
    aiotools: Any = found.get("aiotools")
    quattro: Any = found.get("quattro")

    async def by_anyio() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(work)

    async def by_aiotools() -> None:
        async with aiotools.TaskGroup() as group:
            for _ in range(count):
                group.create_task(work())

    async def by_aiotools_supervisor() -> None:
        async with aiotools.Supervisor() as supervisor:
            for _ in range(count):
                supervisor.create_task(work())

    async def by_quattro() -> None:
        async with quattro.TaskGroup() as group:
            for _ in range(count):
                group.create_task(work())

    async def by_aiojobs() -> None:
        # Without its limit of 100 jobs at a time, which the others do not have.
        scheduler = aiojobs.Scheduler(limit=None)
        for _ in range(count):
            await scheduler.spawn(work())
        await scheduler.wait_and_close()

    sides |= {
        "anyio": by_anyio,
        "aiotools.TaskGroup": by_aiotools,
        "aiotools.Supervisor": by_aiotools_supervisor,
        "quattro.TaskGroup": by_quattro,
        "aiojobs.Scheduler": by_aiojobs,
    }
    absent = {side: missing[name] for side in sides if (name := side.partition(".")[0]) in missing}
    return Contest(
        case.title,
        sides,
        _SCOPE,
        case.often,
        absent,
        unfit={"eager": {"aiojobs.Scheduler": "never ends if its jobs start eagerly"}},
        group="Launching into a scope",
        limit=_LIMIT,
        count=count,
        binding=case.binding,
    )


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

    return Contest(
        case.title,
        {"launch_watched": ours, "create_task + callback": bare},
        _LAUNCH,
        case.often,
        group="Launching and forgetting",
        limit="create_task + callback",
        count=count,
        binding=case.binding,
    )
