"""`@supervised` when all goes well, against a bare task and the libraries that retry."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Iterator
from typing import Any

from async_plus import supervised
from benchmarks.measure import Contest, Ratio, Side, divided
from benchmarks.rows.workloads import Case, Sizes, Work, cases

__all__ = ["contests"]

_RATIOS = (
    Ratio("@supervised / await create_task", 1.4, ("@supervised", "create_task"), divided),
    Ratio("@supervised, heartbeat / await create_task", 2.5, ("heartbeat", "create_task"), divided),
    Ratio("@supervised, ready / await create_task", 2.5, ("ready", "create_task"), divided),
    Ratio("@supervised / tenacity", 0.35, ("@supervised", "tenacity"), divided),
    Ratio("@supervised / stamina", 0.45, ("@supervised", "stamina"), divided),
)


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield a contest for each size and workload."""
    for case in cases(sizes, "calls"):
        yield _contest(case)


# Each as its own documentation first shows it. Nothing fails here, so waits and limits play no part.
_PEERS: dict[str, Callable[[Any, Work], Work]] = {
    "tenacity": lambda tenacity, work: tenacity.retry(work),
    "stamina": lambda stamina, work: stamina.retry(on=Exception)(work),
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
    missing = {}
    for name, decorate in _PEERS.items():
        try:
            peer = importlib.import_module(name)
        except ImportError:
            missing[name] = f"{name} is not installed"
        else:
            sides[name] = _calls(decorate(peer, work), count)
    return Contest(case.title, sides, _RATIOS, case.often, missing)


def _calls(service: Work, count: int) -> Side:
    async def calls() -> None:
        for _ in range(count):
            await service()

    return calls
