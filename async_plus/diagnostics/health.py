"""`health`: is the program alive, and is it ready."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from async_plus.diagnostics.ask import PATIENCE, ask, checked_loop, time_of
from async_plus.diagnostics.cycles import order
from async_plus.diagnostics.loop_watch import LoopWatch, watches_of
from async_plus.diagnostics.parts import ServiceInfo
from async_plus.diagnostics.services import attempts_in, supervisors_of
from async_plus.diagnostics.sights import look
from async_plus.engine.per_loop import peek
from async_plus.stacks.names import plain
from async_plus.supervision.child import ChildState
from async_plus.supervision.supervisor import entered

__all__ = ["Health", "all_services", "health"]


@dataclass(frozen=True, slots=True)
class Health:
    """What `health` found.

    Attributes:
        live: Whether the event loop runs, and is not blocked. If it is not, only a new process helps.
        ready: Whether every supervised service is up.
        problems: What keeps it from being live or ready, a line each.

    .. versionadded:: 1.0
    """

    live: bool
    ready: bool
    problems: tuple[str, ...]


def health(loop: asyncio.AbstractEventLoop | None = None) -> Health:
    """Tell whether the program is alive and ready, for the probes of Kubernetes and the like.

    It is live as long as its event loop runs and is not blocked: with a `watch_loop`, as long as no heartbeat of the
    loop is overdue by the threshold of the watch. Blocks that are over do not count, and a service that fails never
    does: restarting the process would not help it.

    It is ready when every service under `supervised`, and every child of a `Supervisor`, is running, and has called
    `ready` if it declares that; and no supervisor has given up. Services that have ended are not missed.

    A probe that is answered in the loop itself cannot be while that is blocked. One in another thread can, by
    ``health(loop)``: it asks the loop, and if there is no answer within half a second, the program is not ready, and
    without a `watch_loop` not live either.

    Args:
        loop: The loop to judge: the running one by default.

    Raises:
        RuntimeError: No loop is given, and none is running in this thread.
        TypeError: *loop* is no event loop.

    .. versionadded:: 1.0
    """
    loop = checked_loop(loop, "health() needs a loop, as none is running in this thread: pass the one to judge")
    watches = watches_of(loop)
    blocked = _blocked(loop, watches)
    unready = None if blocked and asyncio._get_running_loop() is not loop else ask(loop, lambda: _unready(loop))
    if unready is None:
        silent = [f"the event loop has not answered within {PATIENCE:g} s"]
        return Health(not blocked and bool(watches), False, tuple(blocked or silent))
    return Health(not blocked, not unready, (*blocked, *unready))


def all_services(loop: asyncio.AbstractEventLoop) -> list[tuple[str | None, ServiceInfo]]:
    """Return every service of *loop* with the name of its supervisor, if it has one. In the loop's thread only."""
    now = time_of(loop)
    attempts = attempts_in(look(asyncio.all_tasks(loop)))
    # Tasks come in no order. Two answers of the same are to be the same.
    alone = sorted((attempt.info(now, _no_tasks) for attempt in attempts), key=lambda service: order(service.name))
    found: list[tuple[str | None, ServiceInfo]] = [(None, service) for service in alone]
    left = list(supervisors_of(loop, now, _no_tasks))
    while left:
        supervisor = left.pop(0)
        for child in supervisor.children:
            found.append((supervisor.name, child))
            left.extend(child.supervisors)
    return found


def _no_tasks(_: object) -> tuple[()]:
    return ()


def _blocked(loop: asyncio.AbstractEventLoop, watches: tuple[LoopWatch, ...]) -> list[str]:
    if not loop.is_running():
        return ["the event loop is not running"]
    for watch in watches:
        overdue = watch.overdue
        if overdue >= watch.threshold:
            return [f"the event loop has been blocked for {overdue:.2f} s"]
    return []


def _unready(loop: asyncio.AbstractEventLoop) -> list[str]:
    return [*_given_up(loop), *_not_running(loop)]


def _given_up(loop: asyncio.AbstractEventLoop) -> list[str]:
    registered = peek(loop, entered)
    problems: list[str] = []
    for supervisor in () if registered is None else tuple(registered.values()):
        children = supervisor._children
        if supervisor._is_open and children is not None and children.failure is not None:
            problems.append(f"supervisor {plain(supervisor.name)!r} gave up on {plain(children.failure[0])!r}")
    return problems


def _not_running(loop: asyncio.AbstractEventLoop) -> list[str]:
    # Many of one kind that fare alike make one line.
    groups: dict[tuple[str | None, str, str], list[ServiceInfo]] = {}
    for supervisor, service in all_services(loop):
        if service.state != ChildState.RUNNING:
            groups.setdefault((supervisor, service.name, service.state), []).append(service)
    return [_problem(*key, group) for key, group in groups.items()]


def _problem(supervisor: str | None, name: str, state: str, services: list[ServiceInfo]) -> str:
    who = f"service {name!r}" if supervisor is None else f"child {name!r} of supervisor {supervisor!r}"
    if len(services) > 1:
        who += f" x {len(services)}"
    if state != ChildState.BACKOFF:
        return f"{who} is {state}"
    first = min(services, key=lambda service: service.restart_in or 0.0)
    error = "" if first.last_error is None else f", after {first.last_error}"
    return f"{who} is in backoff{error}, restart in {first.restart_in or 0.0:.1f} s"
