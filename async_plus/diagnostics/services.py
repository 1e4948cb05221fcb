"""Supervisors and supervised services.

A supervised function is found by the frame of whoever awaits it, since nothing else knows of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from async_plus.diagnostics.ask import read_while_changing
from async_plus.diagnostics.parts import ServiceInfo, SupervisorInfo, TaskInfo
from async_plus.diagnostics.sights import Shape, Sight
from async_plus.engine.per_loop import peek
from async_plus.stacks.names import plain, type_name
from async_plus.supervision.child import Child, ChildState
from async_plus.supervision.history import History
from async_plus.supervision.restarts import SUPERVISE
from async_plus.supervision.supervisor import Supervisor, entered
from async_plus.supervision.vitals import Signs

__all__ = ["Attempt", "attempts_in", "supervisors_of"]

# Supervisors in each other. They may nest for ever, but what goes through a snapshot, as json.dumps() does, calls
# itself for every level.
_MAX_DEPTH = 20

# What the tasks of an attempt look like.
_Tasks: TypeAlias = Callable[[object], tuple[TaskInfo, ...]]


class Attempt:
    """A service without a supervisor: what it has seen so far, and how its attempt fares."""

    __slots__ = ("_host", "_signs", "history", "task")

    def __init__(self, host: Sight, history: History, variables: Mapping[str, Any]) -> None:
        self._host = host
        self.history = history
        # Neither is there between two attempts.
        self.task: object = variables.get("task")
        self._signs: Signs | None = variables.get("signs")

    def state(self) -> ChildState:
        """Say what it is at, in the words of a `Child`."""
        signs = self._signs
        if self._host.cancelling or (signs is not None and signs.hung is not None):
            return ChildState.STOPPING
        if self.history.due is not None:
            return ChildState.BACKOFF
        return ChildState.STARTING if _is_ready(signs) is False else ChildState.RUNNING

    def info(self, now: float, tasks: _Tasks) -> ServiceInfo:
        """Tell of it."""
        history = self.history
        state = self.state()
        return ServiceInfo(
            name=plain(history.name),
            state=state.value,
            since=_since(history, state, now),
            restarts=history.attempt - 1,
            last_error=history.failed_with,
            restart_in=_restart_in(history.due, state, now),
            ready=_is_ready(self._signs),
            overdue=self._signs is not None and self._signs.is_overdue(now),
            tasks=tasks(history),
        )


def attempts_in(shapes: Iterable[Shape]) -> list[Attempt]:
    """Find the services that are supervised without a supervisor."""
    found: dict[int, Attempt] = {}
    for shape in shapes:
        for position, link in enumerate(shape.links):
            if link.code is SUPERVISE:
                for sight in shape.sights:
                    variables = shape.link(sight, position).variables()
                    history = variables.get("history")
                    if history is not None:
                        found.setdefault(id(history), Attempt(sight, history, variables))
    return list(found.values())


def supervisors_of(loop: asyncio.AbstractEventLoop, now: float, tasks: _Tasks) -> tuple[SupervisorInfo, ...]:
    """Tell of the supervisors of *loop* whose blocks are open, each below the child that it was opened in."""
    registered = peek(loop, entered)
    if registered is None:
        return ()
    children: dict[Supervisor, tuple[Child, ...]] = read_while_changing(
        lambda: {supervisor: supervisor.children for supervisor in list(registered.values()) if supervisor._is_open}
    )
    below = _below(children)
    return tuple(_supervisor(supervisor, children, below, now, tasks) for supervisor in below.get(None, ()))


def _below(children: Mapping[Supervisor, Sequence[Child]]) -> dict[Child | None, list[Supervisor]]:
    """Sort supervisors by the child below which each is told of, None for the outermost."""
    known = {child: supervisor for supervisor, group in children.items() for child in group}
    homes: dict[Supervisor, tuple[Child | None, int]] = {}
    below: dict[Child | None, list[Supervisor]] = {}
    # In the order in which they were entered, so that an outer one comes before those within it.
    for supervisor in children:
        home, depth = supervisor._parent, 1
        if home not in known:
            home = None
        else:
            outer_home, outer_depth = homes[known[home]]
            home, depth = (home, outer_depth + 1) if outer_depth < _MAX_DEPTH else (outer_home, outer_depth)
        homes[supervisor] = home, depth
        below.setdefault(home, []).append(supervisor)
    return below


def _supervisor(
    supervisor: Supervisor,
    children: Mapping[Supervisor, Sequence[Child]],
    below: Mapping[Child | None, Sequence[Supervisor]],
    now: float,
    tasks: _Tasks,
) -> SupervisorInfo:
    infos: list[ServiceInfo] = []
    for child in children[supervisor]:
        opened = [_supervisor(other, children, below, now, tasks) for other in below.get(child, ())]
        infos.append(_child(child, now, tasks, tuple(opened)))
    return SupervisorInfo(name=plain(supervisor.name), strategy=supervisor._strategy, children=tuple(infos))


def _child(child: Child, now: float, tasks: _Tasks, supervisors: tuple[SupervisorInfo, ...]) -> ServiceInfo:
    state = child.state
    return ServiceInfo(
        name=plain(child.name),
        state=state.value,
        since=_since(child._history, state, now),
        restarts=child.restarts,
        last_error=None if child.last_error is None else type_name(child.last_error),
        restart_in=_restart_in(child._due, state, now),
        ready=_is_ready(child._signs) if child._policy.ready else None,
        overdue=child._signs is not None and child._signs.is_overdue(now),
        tasks=tasks(child),
        supervisors=supervisors,
    )


def _since(history: History, state: ChildState, now: float) -> float:
    if not history.attempt:
        return 0.0
    return max(now - (history.since if state is ChildState.BACKOFF else history.started), 0.0)


def _restart_in(due: float | None, state: ChildState, now: float) -> float | None:
    return None if due is None or state is not ChildState.BACKOFF else max(due - now, 0.0)


def _is_ready(signs: Signs | None) -> bool | None:
    if signs is None or not signs.declares_ready:
        return None
    return signs.is_ready
