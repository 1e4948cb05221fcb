"""What a task costs as the work grows: time and memory, each point in a fresh interpreter.

A process keeps the memory that it once had, so that a second measurement in it would find nothing. There, the time is
that of the best of a few runs, as everywhere; memory is what the process grew by until all tasks were alive, in the
first run.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from async_plus import impatient, supervised, task_scope, try_gather

__all__ = ["FULL", "QUICK", "Extent", "Point", "curves"]


@dataclass(frozen=True, slots=True)
class Extent:
    """How far the curves go, and how many services rest."""

    sizes: tuple[int, ...]
    services: int
    through: int


FULL = Extent(sizes=(10, 100, 1_000, 10_000, 100_000, 1_000_000), services=10_000, through=1_000_000)
QUICK = Extent(sizes=(10, 1_000), services=100, through=10_000)


@dataclass(frozen=True, slots=True)
class Point:
    """One measured size of one curve: seconds and bytes, of one task."""

    curve: str
    count: int
    seconds: float
    bytes: float


_Work = Callable[[], Coroutine[Any, Any, None]]


async def _bare(work: _Work, count: int) -> None:
    tasks = [asyncio.create_task(work()) for _ in range(count)]
    for task in tasks:
        await task


async def _gather(work: _Work, count: int) -> None:
    await asyncio.gather(*[work() for _ in range(count)])


async def _task_group(work: _Work, count: int) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(work())


async def _try_gather(work: _Work, count: int) -> None:
    await try_gather(*[work() for _ in range(count)])


async def _scope(work: _Work, count: int) -> None:
    async with task_scope() as scope:
        for _ in range(count):
            scope.launch(work())
        await scope.wait(return_when=asyncio.ALL_COMPLETED)


async def _impatient(work: _Work, count: int) -> None:
    async def wait() -> None:
        await impatient(work(), log_after=60)

    await _bare(wait, count)


async def _services(work: _Work, count: int) -> None:
    await _scope(supervised(work), count)


async def _through_a_scope(work: _Work, count: int) -> None:
    async with task_scope() as scope:
        for _ in range(max(1, count // 1_000)):
            for _ in range(1_000):
                scope.launch(work())
            await scope.wait(return_when=asyncio.ALL_COMPLETED)


_RUNS: dict[str, Callable[[_Work, int], Coroutine[Any, Any, None]]] = {
    "try_gather": _try_gather,
    "task_scope": _scope,
    "impatient waits": _impatient,
    "asyncio.gather": _gather,
    "TaskGroup": _task_group,
    "bare limit": _bare,
    "services at rest": _services,
    "through one scope": _through_a_scope,
}
_CURVES = tuple(_RUNS)[:6]


def curves(extent: Extent) -> Iterator[Point]:
    """Yield the points of all curves, and the two of which there is one size only."""
    for count in extent.sizes:
        for curve in _CURVES:
            yield _point(curve, count)
    yield _point("services at rest", extent.services)
    yield _point("through one scope", extent.through)


def _point(curve: str, count: int) -> Point:
    command = [sys.executable, "-m", "benchmarks.growth", curve, str(count)]
    folder = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return Point(**json.loads(done.stdout))


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(curve: str, count: int) -> Point:
    """Measure a point, in this process."""
    run = _RUNS[curve]
    most = 0
    runs = 0

    async def work() -> None:
        nonlocal most, runs
        await asyncio.sleep(0)
        runs += 1
        # The first one to go on finds all the others alive. Those that come in batches are looked at now and then.
        if runs == 1 or runs % 100_000 == 0:
            most = max(most, _resident())

    async def time_of(work: _Work) -> float:
        began = time.process_time()
        await run(work, count)
        return time.process_time() - began

    async def main() -> Point:
        nonlocal runs
        # Not more than a few: the memory of all that a process has freed is still its own.
        await run(work, 10)
        gc.collect()
        gc.freeze()
        gc.disable()
        runs = 0
        before = _resident()
        await run(work, count)
        taken = most - before
        # As often as it takes to see a quick one in a quiet moment.
        seconds = min([await time_of(_yields_once) for _ in range(max(2, min(50, 100_000 // count)))])
        return Point(curve, count, seconds / count, max(0, taken) / count)

    return asyncio.run(main())


async def _yields_once() -> None:
    await asyncio.sleep(0)


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1], int(sys.argv[2])))))
