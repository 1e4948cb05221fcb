"""`Snapshot`: the whole of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from async_plus.diagnostics import render
from async_plus.diagnostics.parts import ScopeInfo, ServiceInfo, SupervisorInfo, TaskInfo, WaitCycle, WaitInfo

__all__ = ["Snapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What all tasks of a loop are doing at one moment: what `snapshot` returns.

    ``str()`` writes it as a tree, at most 100 columns wide. Each task is in one place only: below its service or its
    scope if it has one.

    Attributes:
        count: The number of tasks.
        cycles: Tasks that wait for each other.
        supervisors: The supervisors that were not opened within a child of another one.
        services: Supervised services that no supervisor restarts.
        scopes: Scopes, and other owners of tasks.
        waits: Impatient waits in progress, the longest first.
        tasks: All other tasks.

    .. versionadded:: 1.0
    """

    count: int
    cycles: tuple[WaitCycle, ...]
    supervisors: tuple[SupervisorInfo, ...]
    services: tuple[ServiceInfo, ...]
    scopes: tuple[ScopeInfo, ...]
    waits: tuple[WaitInfo, ...]
    tasks: tuple[TaskInfo, ...]

    def __str__(self) -> str:
        return render.tree(
            self.count, self.cycles, self.supervisors, self.services, self.scopes, self.waits, self.tasks
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the same as dicts, tuples, strings and numbers, which `json.dumps` takes."""
        return dataclasses.asdict(self)
