"""`snapshot` against what one would write without it: the formatted `task.get_stack()` of each task."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Iterator

from async_plus import snapshot
from benchmarks.measure import Contest, Ratio, Side, divided
from benchmarks.rows.workloads import Sizes

__all__ = ["contests"]

_RATIO = Ratio("snapshot / formatting task.get_stack()", 0.4, ("snapshot", "get_stack"), divided)

_PARKED = 5_000


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield a contest for a service with many tasks, and one with very many."""
    for count in dict.fromkeys((min(_PARKED, sizes.many), sizes.many)):
        sides = {"snapshot": _looks(count, snapshot), "get_stack": _looks(count, _format_stacks)}
        yield Contest(
            f"{count:,} parked tasks",
            sides,
            (_RATIO,),
            group="Looking at all tasks",
            count=count,
            binding=count >= _PARKED,
        )


def _format_stacks() -> list[str]:
    # As task.print_stack does. It shows one frame of each, the outermost.
    return [
        "".join(traceback.StackSummary.extract((frame, frame.f_lineno) for frame in task.get_stack()).format())
        for task in asyncio.all_tasks()
    ]


def _looks(count: int, look: Callable[[], object]) -> Side:
    async def reply(event: asyncio.Event) -> None:
        await event.wait()

    async def handle(event: asyncio.Event) -> None:
        await reply(event)

    async def parked() -> float:
        event = asyncio.Event()
        tasks = [asyncio.create_task(handle(event)) for _ in range(count)]
        await asyncio.sleep(0)
        began = time.process_time()
        look()
        ended = time.process_time()
        event.set()
        await asyncio.wait(tasks)
        return ended - began

    return parked
