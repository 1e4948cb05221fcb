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
from asyncio import Condition, Lock, Semaphore
from collections.abc import Iterable, Iterator, Sequence
from types import AsyncGeneratorType, CellType, CodeType, FunctionType, MethodType
from typing import Any

from async_plus.diagnostics.sights import Shape, Sight
from async_plus.stacks.names import type_name, type_of
from async_plus.stacks.primitives import WAIT_FOR
from async_plus.stacks.walk import variable

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
        self.timeouts: dict[Sight, float] = {}
        # Of those in which somebody is known to wait for a lock, or may be in a block.
        self.shapes: set[Shape] = set()
        shapes = list(shapes)
        for shape in shapes:
            if shape.links and shape.links[-1].code in _ACQUIRES:
                self.shapes.add(shape)
                for sight in shape.sights:
                    if sight.state == "parked":
                        self._waited[sight] = variable(sight.owners[-1], "self")
        locks = {id(lock) for lock in self._waited.values()}
        for shape in shapes:
            opening = [position for position, link in enumerate(shape.links) if _may_open(link.code)]
            if opening:
                self.shapes.add(shape)
                for sight in shape.sights:
                    # What a class of the user's makes of a lock may lack everything.
                    with contextlib.suppress(Exception):
                        self._look_at(sight, opening, locks)

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
        lock = self._waited.get(sight)
        if not issubclass(type(lock), Semaphore):
            return True
        return len(self.holders(sight)) >= getattr(lock, "_bound_value", math.inf)

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
