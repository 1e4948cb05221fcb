"""What type checkers make of snapshots. Never run: mypy and pyright read it."""

from __future__ import annotations

import asyncio
from typing import Any, assert_type

from async_plus import (
    Place,
    ScopeInfo,
    ServiceInfo,
    Snapshot,
    SupervisorInfo,
    TaskInfo,
    WaitCycle,
    WaitInfo,
    snapshot,
)


def look(loop: asyncio.AbstractEventLoop) -> None:
    snap = snapshot()
    assert_type(snap, Snapshot)
    assert_type(snapshot(loop), Snapshot)
    assert_type(str(snap), str)
    assert_type(snap.to_dict(), dict[str, Any])
    assert_type(snap.count, int)
    assert_type(snap.cycles, tuple[WaitCycle, ...])
    assert_type(snap.supervisors, tuple[SupervisorInfo, ...])
    assert_type(snap.services, tuple[ServiceInfo, ...])
    assert_type(snap.scopes, tuple[ScopeInfo, ...])
    assert_type(snap.waits, tuple[WaitInfo, ...])
    assert_type(snap.tasks, tuple[TaskInfo, ...])


def read(service: ServiceInfo, task: TaskInfo, wait: WaitInfo, cycle: WaitCycle) -> None:
    assert_type(service.restart_in, float | None)
    assert_type(service.tasks, tuple[TaskInfo, ...])
    assert_type(service.supervisors, tuple[SupervisorInfo, ...])
    assert_type(task.names, tuple[str, ...])
    assert_type(task.stack, tuple[Place, ...])
    assert_type(wait.waiting_at, Place | None)
    assert_type(cycle.tasks, tuple[str, ...])
