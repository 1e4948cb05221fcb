"""A snapshot as a tree of text that fits a terminal."""

from __future__ import annotations

import heapq
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from async_plus.diagnostics.parts import (
    ScopeInfo,
    ServiceInfo,
    SupervisorInfo,
    TaskInfo,
    WaitCycle,
    WaitInfo,
)
from async_plus.stacks import Place

__all__ = ["WIDTH", "merged", "printable", "tree"]

WIDTH = 100

# A line, and how deep it is in the tree.
_Line: TypeAlias = tuple[int, str]

_STATES = ("running", "ready", "new", "parked")

# How stacks/primitives.py writes it.
_SLEEP = re.compile(r"sleep, (?P<left>[0-9]+\.[0-9]+) s left")

# Names shown of a crowd.
_MAX_NAMES = 3

# Lines shown of a stack, the outermost and the innermost: a recursion may be deep.
_MAX_STACK = 5, 25

# Characters shown of one thing. A name may be of any length, and a signal handler writes this.
_MAX_TEXT = 2000

# Supervisors may nest for ever, but the text has to go somewhere.
_MAX_DEPTH = 20


def tree(
    count: int,
    cycles: Sequence[WaitCycle],
    supervisors: Sequence[SupervisorInfo],
    services: Sequence[ServiceInfo],
    scopes: Sequence[ScopeInfo],
    waits: Sequence[WaitInfo],
    tasks: Sequence[TaskInfo],
) -> str:
    """Write it all, a section for each kind that there is."""
    sections = [
        [_head(count, supervisors, services, scopes, tasks)],
        [(0, _cycle(cycle)) for cycle in cycles],
        *(list(_supervisor(0, supervisor)) for supervisor in supervisors),
        _section("supervised services", _services(1, services)),
        *(_section(scope.title, _tasks(1, scope.tasks)) for scope in scopes),
        _section("impatient waits", ((1, _wait(wait)) for wait in waits)),
        _section("other tasks" if scopes or supervisors or services else "tasks", _tasks(1, tasks)),
    ]
    return "\n\n".join("\n".join(map(_fit, section)) for section in sections if section)


def _section(title: str, lines: Iterable[_Line]) -> list[_Line]:
    body = list(lines)
    return [(0, title), *body] if body else []


def _head(
    count: int,
    supervisors: Sequence[SupervisorInfo],
    services: Sequence[ServiceInfo],
    scopes: Sequence[ScopeInfo],
    tasks: Sequence[TaskInfo],
) -> _Line:
    states: Counter[str] = Counter()
    for group in (tasks, *(scope.tasks for scope in scopes), *_within(supervisors, services)):
        for task in group:
            states[task.state] += len(task.names)
    told = ", ".join(f"{states[state]:,} {state}" for state in _STATES if states[state])
    return 0, f"{count:,} task{'' if count == 1 else 's'}" + (told and f": {told}")


def _within(supervisors: Iterable[SupervisorInfo], services: Iterable[ServiceInfo]) -> Iterator[Sequence[TaskInfo]]:
    for service in services:
        yield service.tasks
        yield from _within(service.supervisors, ())
    for supervisor in supervisors:
        yield from _within((), supervisor.children)


def _cycle(cycle: WaitCycle) -> str:
    word = "deadlock" if cycle.is_certain else "possible deadlock"
    ends = "" if cycle.ends_in is None else f", until a timeout in {cycle.ends_in:.1f} s"
    return f"{word}: {' -> '.join(map(repr, (*cycle.tasks, cycle.tasks[0])))}{ends}"


def _supervisor(depth: int, supervisor: SupervisorInfo) -> Iterator[_Line]:
    yield depth, f"supervisor {supervisor.name!r} ({supervisor.strategy})"
    for child in supervisor.children:
        yield from _service(depth + 1, [child])


def _services(depth: int, services: Iterable[ServiceInfo]) -> Iterator[_Line]:
    # A thousand feeds that all run make one line.
    alike: dict[tuple[object, ...], list[ServiceInfo]] = {}
    for service in services:
        at = tuple((task.coroutine, task.state, task.stack, task.cancelling) for task in service.tasks)
        facts = service.name, service.state, service.last_error, service.ready, service.overdue, at
        alike.setdefault(facts, []).append(service)
    for group in alike.values():
        yield from _service(depth, group)


def _service(depth: int, services: Sequence[ServiceInfo]) -> Iterator[_Line]:
    first = services[0]
    name = repr(first.name) + (f" x {len(services)}" if len(services) > 1 else "")
    facts = [f"{first.state} for {_span([service.since for service in services])} s"]
    if any(service.restart_in is not None for service in services):
        facts.append(f"restart in {_span([service.restart_in or 0.0 for service in services])} s")
    restarts = [service.restarts for service in services]
    if max(restarts):
        number = f"{min(restarts)}" if min(restarts) == max(restarts) else f"{min(restarts)} to {max(restarts)}"
        facts.append(f"{number} restart{'' if number == '1' else 's'}")
    if first.last_error is not None:
        facts.append(f"last error {first.last_error}")
    if first.ready is not None:
        facts.append("ready" if first.ready else "not ready")
    if first.overdue:
        facts.append("heartbeat overdue")
    yield depth, f"{name} {', '.join(facts)}"
    # What the tasks of these services wait on may differ in its details only.
    for tasks in zip(*(service.tasks for service in services), strict=True):
        yield from _task(depth + 1, [name for task in tasks for name in task.names], tasks)
    for service in services:
        for supervisor in service.supervisors:
            yield from _supervisor(depth + 1, supervisor)


def _tasks(depth: int, tasks: Iterable[TaskInfo]) -> Iterator[_Line]:
    for task in tasks:
        yield from _task(depth, task.names, [task])


def _task(depth: int, names: Sequence[str], tasks: Sequence[TaskInfo]) -> Iterator[_Line]:
    first = tasks[0]
    if len(names) == 1:
        text = f"{names[0]!r} ({first.coroutine})"
    else:
        text = f"{first.coroutine} x {len(names)} ({_names(names)})"
    # In the other states there is nothing more to say than the state itself.
    text += f" {first.state}"
    if first.state == "parked":
        on = merged([task.on for task in tasks])
        text += f" on {on}"
    if first.cancelling:
        text += f", cancelled {first.cancelling} time{'' if first.cancelling == 1 else 's'}"
    left = [task.timeout_in for task in tasks if task.timeout_in is not None]
    if left:
        text += f", timeout in {min(left):.1f} s"
    yield depth, text
    outer, inner = _MAX_STACK
    left_out = len(first.stack) - outer - inner
    for number, place in enumerate(first.stack):
        if number < outer or number >= outer + left_out:
            yield depth + 1, _place(place, WIDTH - 2 * min(depth + 1, _MAX_DEPTH))
        elif number == outer:
            yield depth + 1, f"... {left_out:,} more"


def _wait(wait: WaitInfo) -> str:
    times = f" x {len(wait.tasks)}" if len(wait.tasks) > 1 else ""
    at = "" if wait.waiting_at is None else f" at {_place(wait.waiting_at, WIDTH - 10)}"
    span = _span([wait.shortest, wait.longest])
    return f"{wait.awaited}{times} for {span} s in {_names(wait.tasks)}{at}"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMES:,} more" if len(names) > _MAX_NAMES else ""
    return f"{', '.join(map(repr, names[:_MAX_NAMES]))}{more}"


def merged(texts: Iterable[str]) -> str:
    """Say what several tasks wait on, each different text once and not too many of them."""
    different = set(texts)
    if len(different) == 1:
        return different.pop()
    sleeps = [match["left"] for text in different if (match := _SLEEP.fullmatch(text))]
    if len(sleeps) == len(different):
        return f"sleep, {_span([*map(float, sleeps)])} s left"
    shown = heapq.nsmallest(_MAX_NAMES, different, key=lambda text: (len(text), text))
    more = f"; and {len(different) - _MAX_NAMES:,} more" if len(different) > _MAX_NAMES else ""
    return "; ".join(shown) + more


def _span(seconds: Sequence[float]) -> str:
    least, most = f"{min(seconds):.1f}", f"{max(seconds):.1f}"
    return least if least == most else f"{least} to {most}"


def _place(place: Place, width: int) -> str:
    """Write *place* in *width* columns: of a long path the end matters."""
    text = str(place)
    while len(text) > width and os.sep in text.strip("…/"):
        text = "…/" + text.removeprefix("…/").lstrip("/").partition(os.sep)[2]
    return text


def printable(text: str) -> str:
    """Replace what a terminal would act upon: names are the user's own, and must not break what they are written to."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _fit(line: _Line) -> str:
    """Indent a line, and break it where it is too long."""
    depth, text = line
    text = printable(text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…")
    indent = "  " * min(depth, _MAX_DEPTH)
    lines: list[str] = []
    while len(indent) + len(text) > WIDTH:
        room = WIDTH - len(indent)
        # Best after a comma, unless that leaves much room.
        end = max(text.rfind(" ", 1, room + 1), 0)
        comma = text.rfind(", ", 0, room)
        if comma > room * 0.7:
            end = comma + 1
        # A word that is too long in itself is broken anywhere.
        head, text = (text[:room], text[room:]) if not end else (text[:end], text[end + 1 :])
        lines.append(indent + head)
        if len(lines) == 1:
            indent += "    "
    return "\n".join([*lines, indent + text])
