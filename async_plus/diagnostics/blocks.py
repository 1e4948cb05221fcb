"""Locks that are held and timeouts that run, seen by the blocks that a task is in.

    async with lock:                    # the frame keeps the bound method lock.__aexit__ until the block ends
        async with asyncio.timeout(5):
            await reply

Only the garbage collector is asked what a frame keeps: to read its variables would keep them alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import opcode
from asyncio import Condition, Lock, Semaphore, Task
from collections.abc import Iterable, Iterator, Sequence
from types import AsyncGeneratorType, CellType, CodeType, FunctionType, MethodType
from typing import Any, TypeGuard

from async_plus.diagnostics.guesses import has_taken, held_while_running, within_reach
from async_plus.diagnostics.sights import Shape, Sight
from async_plus.stacks import Link, listing
from async_plus.stacks.libraries import Owners, owners_in
from async_plus.stacks.names import is_done, is_task, task_name, type_name, type_of
from async_plus.stacks.primitives import WAIT_FOR
from async_plus.stacks.walk import frame_of, variable

__all__ = ["Locks"]

_EXITS = ("__aexit__", "__exit__")

_ACQUIRES = (Lock.acquire.__code__, Semaphore.acquire.__code__)
_CONDITION_WAIT = Condition.wait.__code__

# What there is in the code of functions that may be in a block, or in the loop of an async generator that is.
_OPENING = frozenset(opcode.opmap[name] for name in ("WITH_EXCEPT_START", "GET_AITER"))

# The context manager that @asynccontextmanager makes of an async generator.
_GeneratorContext: Any = getattr(contextlib, "_AsyncGeneratorContextManager")  # noqa: B009


# Blocks in blocks that are looked into.
_MAX_DEPTH = 5

# Functions of asyncio that have their timeout in a timer of their own.
_TIMED = (WAIT_FOR, getattr(getattr(asyncio.tasks, "_wait", None), "__code__", None))


class Locks:
    """The locks for which somebody waits, and who holds them; the timeouts are noted on the way."""

    def __init__(self, shapes: Iterable[Shape]) -> None:
        # Whoever waits for a lock, and for which. (By id: locks of the user's may compare as they like.)
        self._waited: dict[Sight, Any] = {}
        self._holders: dict[int, list[Sight]] = {}
        # Whoever has a lock by its own account, and was not seen: another loop's task, one that has ended, or no task.
        self._strangers: dict[int, list[object]] = {}
        # The locks whose holders are only those that may hold it.
        self._guessed: set[int] = set()
        # What is said of a lock: thousands may wait for it.
        self._texts: dict[int, str] = {}
        self.timeouts: dict[Sight, float] = {}
        # Of those in which somebody is known to wait for a lock, or may be in a block.
        self.shapes: set[Shape] = set()
        shapes = list(shapes)
        for shape in shapes:
            self._note_waits(shape)
        if self._strangers:
            self._find(shapes)
        locks = {id(lock) for lock in self._waited.values()}
        for shape in shapes:
            opening = [position for position, link in enumerate(shape.links) if _may_open(link.code)]
            if opening:
                self.shapes.add(shape)
                for sight in shape.sights:
                    with contextlib.suppress(Exception):
                        self._look_at(sight, opening, locks)
        unseen = locks - self._holders.keys() - self._strangers.keys()
        if unseen:
            self._guess(shapes, unseen)

    def told(self, sight: Sight) -> str:
        """Say who holds the lock for which *sight* waits, "" if that cannot be seen."""
        lock = id(self._waited.get(sight))
        if self._holders.get(lock) == [sight]:
            return ", held by itself"
        if lock not in self._texts:
            self._texts[lock] = self._text(lock)
        return self._texts[lock]

    def holders(self, sight: Sight) -> list[Sight]:
        """Return who holds the lock for which *sight* waits, as far as that can be seen."""
        return self._holders.get(id(self._waited.get(sight)), [])

    def waits(self) -> Iterator[tuple[Sight, list[Sight]]]:
        """Yield whoever waits for a lock whose holder can be seen, with the holders."""
        for sight in self._waited:
            if holders := self.holders(sight):
                yield sight, holders

    def all_holders(self) -> Iterator[Sight]:
        """Yield whoever holds a lock for which somebody waits."""
        for holders in self._holders.values():
            yield from holders

    def is_certain(self, sight: Sight) -> bool:
        """Tell whether nobody unseen can hold the lock for which *sight* waits."""
        lock: Any = self._waited.get(sight)
        if id(lock) in self._guessed or not all(map(_has_ended, self._strangers.get(id(lock), ()))):
            return False
        if not issubclass(type(lock), Semaphore):
            return True
        try:
            places: int = lock._bound_value
        except Exception:  # no bounded one, or a class of the user's
            return False
        return len(self.holders(sight)) >= places

    def _text(self, lock: int) -> str:
        if lock in self._holders:
            lead = ", possibly held by" if lock in self._guessed else ", held by"
            return listing(lead, [holder.task for holder in self._holders[lock]])
        for stranger in filter(_has_ended, self._strangers.get(lock, ())):
            return f", held by {task_name(stranger)}, which has ended"
        return ""

    def _note_waits(self, shape: Shape) -> None:
        if not shape.links:
            return
        position = len(shape.links) - 1
        owners = None
        if shape.links[-1].code not in _ACQUIRES:
            position, owners = _owners(shape.links)
            if owners is None:
                return
        self.shapes.add(shape)
        for sight in shape.sights:
            if sight.state == "parked":
                lock = variable(sight.owners[position], "self")
                if lock is None:  # it went on in another thread
                    continue
                self._waited[sight] = lock
                # As below, what a class of the user's makes of a lock may lack everything.
                with contextlib.suppress(Exception):
                    if owners is not None:
                        self._strangers[id(lock)] = [owner for owner in owners(lock) if owner is not None]

    def _find(self, shapes: Sequence[Shape]) -> None:
        """Find the owners of locks that know them, among the tasks that were seen."""
        wanted = {id(owner) for owners in self._strangers.values() for owner in owners}
        found: dict[int, Sight] = {}
        for shape in shapes:
            if shape.others or any(id(task) in wanted for task, _, _ in shape.seen):
                found.update((id(sight.task), sight) for sight in shape.sights if id(sight.task) in wanted)
        for lock, owners in self._strangers.items():
            holders = [found[id(owner)] for owner in owners if id(owner) in found]
            if holders:
                self._holders[lock] = holders
                self.shapes.update(holder.shape for holder in holders)
                owners[:] = [owner for owner in owners if id(owner) not in found]

    def _guess(self, shapes: Sequence[Shape], unseen: set[int]) -> None:
        for shape in shapes:
            taking = [
                position
                for position, link in enumerate(shape.links)
                if link.code is not None and has_taken(link.code, link.lasti)
            ]
            for sight in shape.sights if taking else shape.others:
                # Whoever waits for it has not got it.
                locks = unseen - {id(self._waited.get(sight))}
                with contextlib.suppress(Exception):
                    for lock in locks and locks & _maybe_held(sight, taking):
                        self._holders.setdefault(lock, []).append(sight)
                        self._guessed.add(lock)
                        self.shapes.add(shape)

    def _look_at(self, sight: Sight, opening: Sequence[int], locks: set[int]) -> None:
        own = len(sight.owners) if sight.chain is None else len(sight.chain.own_links)
        seen = set(map(id, sight.owners))
        held: list[int] = []
        # (The inner part of a chain that goes on in another task is that one's.)
        for position in filter(own.__gt__, opening):
            for context in _open_blocks(sight.owners[position], seen):
                lock = id(_lock_of(context))
                if lock in locks:
                    held.append(lock)
                elif (when := _when(context, sight.shape.links[position].code in _TIMED)) is not None:
                    self.timeouts[sight] = min(when, self.timeouts.get(sight, when))
        if held:
            for lock in _not_held(sight, own):
                if lock in held:
                    held.remove(lock)
            for lock in dict.fromkeys(held):
                self._holders.setdefault(lock, []).append(sight)


def _owners(links: Sequence[Link]) -> tuple[int, Owners | None]:
    """Find the link that waits for a lock that knows who has it, and what tells that."""
    for position in range(len(links) - 1, max(len(links) - 3, -1), -1):
        code = links[position].code
        if code is not None and (owners := owners_in(code)) is not None:
            return position, owners
    return -1, None


def _has_ended(stranger: object) -> TypeGuard[Task[Any]]:
    return is_task(stranger) and is_done(stranger)


def _maybe_held(sight: Sight, taking: Iterable[int]) -> set[int]:
    """Return the ids of what *sight* may have taken at those positions, or holds while it runs."""
    if sight.state == "running":
        frame = frame_of(sight.owners[0])
        return set() if frame is None else held_while_running(frame)
    own = len(sight.owners) if sight.chain is None else len(sight.chain.own_links)
    found = set[int]()
    for position in filter(own.__gt__, taking):
        found |= within_reach(sight.owners[position])
    return found


def _may_open(code: CodeType | None) -> bool:
    return code is not None and (code in _TIMED or not _OPENING.isdisjoint(code.co_code[::2]))


def _open_blocks(owner: object, seen: set[int], depth: int = 0) -> Iterator[Any]:
    """Yield whose blocks the frame of *owner* is in, those that these have opened in their turn, and timers."""
    for thing in gc.get_referents(owner):
        kind = type_of(thing)
        inner: object = None
        if kind is MethodType:
            if type(thing.__func__) is FunctionType and thing.__func__.__name__ in _EXITS:
                yield thing.__self__
                inner = _inside(thing.__self__)
        elif kind is AsyncGeneratorType or kind is CellType:
            # The one is at its yield, while the body of an "async for" runs. The other is a variable.
            inner = thing
        elif type_name(thing) == "TimerHandle":
            yield thing
        if inner is not None and id(inner) not in seen and depth < _MAX_DEPTH:
            seen.add(id(inner))
            yield from _open_blocks(inner, seen, depth + 1)


def _inside(context: Any) -> object:
    """Return what refers to the blocks that are open within that of *context*."""
    if issubclass(type(context), contextlib.AsyncExitStack):
        return [callback for _, callback in context._exit_callbacks]
    return context.gen if issubclass(type(context), _GeneratorContext) else None


def _lock_of(context: Any) -> object:
    return context._lock if issubclass(type(context), Condition) else context


def _when(context: Any, is_timed: bool) -> float | None:
    """Return when a timeout expires; *is_timed* tells whether it may be a timer as well."""
    if type(context) is not asyncio.Timeout and not (is_timed and type_name(context) == "TimerHandle"):
        return None
    when: float | None = context.when()
    return None if when is None or math.isinf(when) else when


def _not_held(sight: Sight, own: int) -> Iterator[int]:
    """Yield the locks that *sight* does not hold although it is in their block.

    A block has an exit already while it is being entered:

        async with lock:            # in here, waiting: Lock.__aenter__ -> Lock.acquire

    And whoever waits for a condition has let go of its lock until it is notified.
    """
    for link in sight.links[:own]:
        code = link.code
        if code is None or not (code is _CONDITION_WAIT or code.co_name == "__aenter__"):
            continue
        yield id(_lock_of(variable(link.owner, code.co_varnames[0])))
