"""`snapshot`: what every task of a loop is doing right now."""

from __future__ import annotations

import asyncio
from asyncio import Task
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any

from async_plus.diagnostics.ask import checked_loop, read_while_changing, time_of
from async_plus.diagnostics.blocks import Locks
from async_plus.diagnostics.cycles import cycles_of, order
from async_plus.diagnostics.parts import ScopeInfo, TaskInfo, WaitCycle, WaitInfo
from async_plus.diagnostics.render import merged
from async_plus.diagnostics.report import Snapshot
from async_plus.diagnostics.services import attempts_in, supervisors_of
from async_plus.diagnostics.sights import Shape, Sight, look
from async_plus.engine.long_waits import Entry, Registers, place_of, title_of
from async_plus.engine.owned import owners_of
from async_plus.engine.per_loop import peek
from async_plus.stacks import name_of
from async_plus.stacks.names import name_of_task, plain
from async_plus.supervision.children import Children

__all__ = ["snapshot"]

# Those who are in a circle, or hold what others wait for, are told of one by one, unless they are a crowd.
_MAX_SINGLES = 50


def snapshot(loop: asyncio.AbstractEventLoop | None = None) -> Snapshot:
    """Tell what every task is doing right now: where it stands, what it waits on, and who waits for whom in a circle.

        print(snapshot())

    It may be called in the thread of the loop, from a coroutine, a signal handler or a debugger, be the loop idle or
    blocked. In another thread have the loop do it (`asyncio.loop.call_soon_threadsafe`): CPython does not protect the
    frames of a loop that runs from being read meanwhile, and may crash.

    Nothing is asked of the objects that are met, and nothing of them is shown but names of functions and types, lines
    of code, names of tasks, and addresses of sockets: no argument, no result, no text of an exception. (What you had
    `register_waiter` tell is yours.)

    Args:
        loop: Whose tasks to look at: the running loop by default.

    Raises:
        RuntimeError: No loop is given, and none is running in this thread.
        TypeError: *loop* is no event loop.

    .. versionadded:: 1.0
    """
    loop = checked_loop(loop, "snapshot() needs a loop, as none is running in this thread: pass the one to look at")
    snapper = _Snapper(loop)
    try:
        return snapper.snapshot()
    finally:
        snapper.let_go()


class _Snapper:
    """One look at a loop. It refers to all that was seen, so it lives no longer than the call."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._now = time_of(loop)
        self._shapes = look(asyncio.all_tasks(loop))
        self._locks = Locks(self._shapes)
        self._cycles = cycles_of(self._shapes, self._locks)
        self._attempts = attempts_in(self._shapes)
        # Whose the tasks are: of a child or a history of attempts, of an owner with this title, or of nobody we know.
        self._sections: dict[object, dict[object, list[Sight]]] = {}
        # The plain ones of a shape, all at once: these are nobody's.
        self._crowds: list[Shape] = []
        self._titles: dict[int, str] = {}
        self._sort()

    def snapshot(self) -> Snapshot:
        """Put it all into words and numbers."""
        supervisors = supervisors_of(self._loop, self._now, self._pop)
        services = [attempt.info(self._now, self._pop) for attempt in self._attempts]
        waits = self._waits()
        others = _in_order((*self._pop(None), *map(_crowd, self._crowds)))
        # A child that ended a moment ago, say, is no child any more, and may have left its task behind.
        titles = {key: key if isinstance(key, str) else "supervised, ended meanwhile" for key in self._sections}
        return Snapshot(
            count=sum(len(shape.seen) + len(shape.others) for shape in self._shapes),
            cycles=tuple(map(self._cycle, self._cycles)),
            supervisors=supervisors,
            services=tuple(sorted(services, key=lambda service: (order(service.name), service.state, service.since))),
            scopes=tuple(
                ScopeInfo(title=titles[key], tasks=self._pop(key))
                for key in sorted(titles, key=lambda key: order(titles[key]))
            ),
            waits=waits,
            tasks=others,
        )

    def let_go(self) -> None:
        """Break the cycles, so that nothing that was looked at has to wait for the garbage collector."""
        for shape in self._shapes:
            shape.let_go()

    def _sort(self) -> None:
        attempts: dict[int, object] = {id(attempt.task): attempt.history for attempt in self._attempts}
        singles = {sight for cycle in self._cycles for sight in cycle}
        singles.update(islice(self._locks.all_holders(), _MAX_SINGLES))
        crowded = {sight.shape for sight in singles} | self._locks.shapes
        for shape in self._shapes:
            sights = shape.others
            if shape.seen and shape not in crowded:
                # An attempt is not among them, since its end is told to whoever awaits it.
                self._crowds.append(shape)
            else:
                sights = shape.sights
            for sight in sights:
                home = attempts.get(id(sight.task)) or self._home(sight.task)
                alike = shape, sight.state, sight.cancelling, sight in singles and sight
                self._sections.setdefault(home, {}).setdefault(alike, []).append(sight)

    def _home(self, task: Task[Any]) -> object:
        for owner in owners_of(task):
            if isinstance(owner, Children):
                return owner._live.get(task)
            title = self._titles.get(id(owner))
            if title is None:
                title = self._titles[id(owner)] = plain(owner._title())
            return title
        return None

    def _pop(self, home: object) -> tuple[TaskInfo, ...]:
        """Take the tasks of *home* out of what is left, and tell of them."""
        return _in_order(map(self._info, self._sections.pop(home, {}).values()))

    def _info(self, sights: list[Sight]) -> TaskInfo:
        first = sights[0]
        return TaskInfo(
            names=_sorted([sight.name for sight in sights]),
            coroutine=first.shape.coroutine or name_of(first.task),
            state=first.state,
            on=merged(sight.on() + self._locks.told(sight) for sight in sights),
            stack=first.shape.stack,
            cancelling=first.cancelling,
            timeout_in=self._timeout_in(sights),
        )

    def _timeout_in(self, sights: list[Sight]) -> float | None:
        timeouts = self._locks.timeouts
        when = min([timeouts[sight] for sight in sights if sight in timeouts], default=None) if timeouts else None
        return None if when is None else max(when - self._now, 0.0)

    def _cycle(self, cycle: list[Sight]) -> WaitCycle:
        return WaitCycle(
            tasks=tuple(sight.name for sight in cycle),
            is_certain=all(self._locks.is_certain(sight) for sight in cycle),
            ends_in=self._timeout_in(cycle),
        )

    def _waits(self) -> tuple[WaitInfo, ...]:
        registers = peek(self._loop, Registers)
        entries: list[Entry] = [] if registers is None else read_while_changing(registers.in_progress)
        if not entries:
            return ()
        sights = {id(sight.task): sight for shape in self._shapes for sight in shape.sights}
        groups: dict[tuple[str, int, int], list[Entry]] = {}
        nested: Counter[int] = Counter()
        for entry in entries:
            sight = sights.get(id(entry[1]))
            if sight is not None:
                # Of several waits of one task, the outer one has lasted longer.
                key = plain(title_of(entry)), id(sight.shape), nested[id(sight)]
                nested[id(sight)] += 1
                groups.setdefault(key, []).append(entry)
        return tuple(
            WaitInfo(
                awaited=awaited,
                waiting_at=place_of(group[0], sights[id(group[0][1])].links),
                longest=self._now - group[0][0],
                shortest=self._now - group[-1][0],
                tasks=tuple(sights[id(entry[1])].name for entry in group),
            )
            for (awaited, *_), group in groups.items()
        )


def _crowd(shape: Shape) -> TaskInfo:
    return TaskInfo(
        names=_sorted([name_of_task(task) for task, _, _ in shape.seen]),
        coroutine=shape.coroutine,
        state="parked",
        on=merged(shape.on(shape.seen)),
        stack=shape.stack,
        cancelling=0,
        timeout_in=None,
    )


def _in_order(infos: Iterable[TaskInfo]) -> tuple[TaskInfo, ...]:
    return tuple(sorted(infos, key=lambda info: (info.state != "running", order(info.names[0]))))


def _sorted(names: list[str]) -> tuple[str, ...]:
    # As `order` does, but for many: the shorter ones first.
    names.sort()
    names.sort(key=len)
    return tuple(names)
