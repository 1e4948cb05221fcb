"""Stopping very many tasks that wait, and waiting until they have stopped."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator

from async_plus import cancel_and_wait, task_scope, try_gather
from benchmarks.measure import Contest, Ratio, Side, divided
from benchmarks.rows.workloads import Sizes

__all__ = ["contests"]

_LIMIT = "bare limit"
_RATIOS = (
    Ratio("task_scope / TaskGroup, cancelling", None, ("task_scope", "TaskGroup"), divided),
    Ratio(
        "try_gather / asyncio.gather, cancelling",
        None,
        ("try_gather", "asyncio.gather"),
        divided,
        "a failure cancels none",
    ),
    Ratio("cancel_and_wait / bare limit", None, ("cancel_and_wait", _LIMIT), divided, "no error is handled"),
)


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield the one contest, of very many tasks."""
    sides = {
        "task_scope": _timed(_scope, sizes.many),
        "TaskGroup": _timed(_task_group, sizes.many),
        "try_gather": _timed(_try_gather, sizes.many),
        "asyncio.gather": _timed(_gather, sizes.many),
        "cancel_and_wait": _timed(_cancel_and_wait, sizes.many),
        _LIMIT: _timed(_bare, sizes.many),
    }
    title = f"{sizes.many:,} tasks cancelled"
    yield Contest(title, sides, _RATIOS, 0.2, group="Cancelling", limit=_LIMIT, count=sizes.many)


# Called when all tasks wait: the time runs from then on.
_Begin = Callable[[], None]


def _timed(cancel: Callable[[int, _Begin], Awaitable[None]], count: int) -> Side:
    async def cancelled() -> float:
        began = 0.0

        def begin() -> None:
            nonlocal began
            began = time.process_time()

        await cancel(count, begin)
        return time.process_time() - began

    return cancelled


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()


async def _scope(count: int, begin: _Begin) -> None:
    async with task_scope() as scope:
        for _ in range(count):
            scope.launch(_forever())
        await asyncio.sleep(0)
        begin()


async def _task_group(count: int, begin: _Begin) -> None:
    async def host() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(_forever())
            await asyncio.sleep(0)
            begin()
            raise LookupError

    # In a task of its own: a group that fails may leave its host with a raised count of cancellations (gh-116720).
    with contextlib.suppress(ExceptionGroup):
        await asyncio.create_task(host())


async def _cancel_host(host: asyncio.Task[object], begin: _Begin) -> None:
    for _ in range(3):
        await asyncio.sleep(0)
    begin()
    host.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await host


async def _try_gather(count: int, begin: _Begin) -> None:
    async def host() -> None:
        await try_gather(*[_forever() for _ in range(count)])

    await _cancel_host(asyncio.create_task(host()), begin)


async def _gather(count: int, begin: _Begin) -> None:
    async def host() -> None:
        await asyncio.gather(*[_forever() for _ in range(count)])

    await _cancel_host(asyncio.create_task(host()), begin)


async def _cancel_and_wait(count: int, begin: _Begin) -> None:
    tasks = [asyncio.create_task(_forever()) for _ in range(count)]
    await asyncio.sleep(0)
    begin()
    await cancel_and_wait(*tasks)


async def _bare(count: int, begin: _Begin) -> None:
    tasks = [asyncio.create_task(_forever()) for _ in range(count)]
    await asyncio.sleep(0)
    begin()
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
