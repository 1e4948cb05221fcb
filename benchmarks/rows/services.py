"""`@supervised` when all goes well, against a bare task and the libraries that retry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from async_plus import supervised
from benchmarks.measure import Contest, Ratio, Side, divided
from benchmarks.rows.workloads import Case, Sizes, Work, cases, peers

__all__ = ["contests"]

_NO_TASK = "no task of its own, a stop passes for a failure"
_RATIOS = (
    Ratio("@supervised / await create_task", 1.4, ("@supervised", "create_task"), divided),
    Ratio("@supervised, heartbeat / await create_task", 2.5, ("heartbeat", "create_task"), divided),
    Ratio("@supervised, ready / await create_task", 2.5, ("ready", "create_task"), divided),
    Ratio("@supervised / tenacity", 0.35, ("@supervised", "tenacity"), divided, _NO_TASK),
    Ratio("@supervised / stamina", 0.45, ("@supervised", "stamina"), divided, _NO_TASK),
    Ratio("@supervised / backoff", None, ("@supervised", "backoff"), divided, _NO_TASK),
)


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield a contest for each size and workload."""
    for case in cases(sizes, "calls", budgeted=True):
        yield _contest(case)


# Each as its own documentation first shows it. Nothing fails here, so waits and limits play no part.
_PEERS: dict[str, Callable[[Any, Work], Work]] = {
    "tenacity": lambda tenacity, work: tenacity.retry(work),
    "stamina": lambda stamina, work: stamina.retry(on=Exception)(work),
    "backoff": lambda backoff, work: backoff.on_exception(backoff.expo, Exception)(work),
}


def _contest(case: Case) -> Contest:
    work, count = case.work, case.count

    async def bare() -> None:
        for _ in range(count):
            await asyncio.create_task(work())

    sides: dict[str, Side] = {
        "@supervised": _calls(supervised(work), count),
        "heartbeat": _calls(supervised(heartbeat=30)(work), count),
        "ready": _calls(supervised(ready=True)(work), count),
        "create_task": bare,
    }
    found, missing = peers(*_PEERS)
    sides |= {name: _calls(_PEERS[name](peer, work), count) for name, peer in found.items()}
    return Contest(
        case.title,
        sides,
        _RATIOS,
        case.often,
        missing,
        group="Calling a service that succeeds",
        limit="create_task",
        count=count,
        binding=case.binding,
    )


def _calls(service: Work, count: int) -> Side:
    async def calls() -> None:
        for _ in range(count):
            await service()

    return calls
