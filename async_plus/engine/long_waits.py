"""Impatient waits of a loop, and what is told of those that are long.

A wait that ends in time must cost next to nothing. So it only enters itself in a register, with the time; whatever a
report tells is found out when there is something to report.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import math
import sys
from asyncio import CancelledError
from collections.abc import Iterable, Iterator
from contextvars import Context
from types import CodeType, CoroutineType, FrameType, MethodType
from typing import Any, Literal, TypeAlias, cast

from async_plus import events, stacks
from async_plus.engine.owned import task_name
from async_plus.stacks import Place

__all__ = [
    "Entry",
    "LogCompletion",
    "Patience",
    "Register",
    "Registers",
    "Spot",
    "awaiting",
    "is_user_code",
    "place_of",
    "title_of",
]

LogCompletion: TypeAlias = Literal["never", "after_long_wait", "always"]

# An instruction: its code, and its offset.
Spot: TypeAlias = tuple[CodeType, int]

# Complaints written in one turn of the loop. Thousands may be due at once, and each takes a while to find out.
BATCH = 50

# Registers of one loop before those in which nothing waits are looked for. A program has a few, unless it computes its
# log_after.
MANY = 64


class Patience:
    """The checked options of an impatient wait. No wait is long if *log_after* is infinite."""

    __slots__ = ("always", "log_after", "log_completion", "log_level", "stacklevel")

    def __init__(self, log_after: float, log_completion: LogCompletion, log_level: int | None, stacklevel: int) -> None:
        self.log_after = log_after
        self.log_completion = log_completion
        self.log_level = log_level
        self.stacklevel = stacklevel
        self.always = log_completion == "always"


# What is kept of a wait that is not long yet, as cheap as it can be: since when, the task, what is awaited, the
# options, what to call it if not by its own name, the code of the function that was decorated, and on 3.11 the
# context. Of a block: the block, and the spot of its "async with".
Entry: TypeAlias = tuple[
    float, "asyncio.Task[Any]", object, Patience, "str | None", "CodeType | Spot | None", "Context | None"
]


class Register:
    """The waits of one loop that are due *gap* seconds after they entered, so in the order in which they did.

    One timer serves them all. It is set for the head; it lapses, and the register goes, when nothing waits. With an
    infinite *gap* nothing is ever due.
    """

    __slots__ = ("_ahead", "_context", "_home", "_long", "armed", "gap", "serial", "timer", "waits")

    def __init__(self, home: Registers, gap: float) -> None:
        self._home = home
        self.gap = gap
        self.waits: dict[int, Entry | tuple[float, _LongWait]] = {}
        self.serial = 0
        # Keys of `waits`, the first one last. A dict walks over all that were removed before it finds its head; like
        # this, each key is looked at once.
        self._ahead: list[int] = []
        # Those that were complained of, by their first key. They are due again in a register with twice the gap.
        self._long: dict[int, _LongWait] = {}
        # Whether the timer is set, or never need be.
        self.armed = gap == math.inf
        self.timer: asyncio.TimerHandle | None = None
        # The timer belongs to no task, least of all to the one that happens to set it.
        self._context = Context()

    def enter(self, entry: Entry | tuple[float, _LongWait]) -> int:
        """Add a wait, and return the key to remove it from `waits` by. If it is not there any more, it was long."""
        key = self.serial = self.serial + 1
        self.waits[key] = entry
        if not self.armed:
            self.arm(entry[0] + self.gap)
        return key

    def arm(self, when: float) -> None:
        """Set the timer."""
        self.armed = True
        self.timer = self._home.loop.call_at(when, self._due, context=self._context)

    def ended(self, key: int, entry: Entry, exc: BaseException | None, frame: FrameType | None) -> None:
        """Report, if that is wished, that a wait ended in *frame*. It is not in `waits` any more."""
        long = self._long.pop(key, None)
        if long is not None:
            long.register.waits.pop(long.key, None)
        wait = long or _LongWait(entry)
        # A coroutine that is closed while it waits does not see the end of what it waited for.
        if wait.patience.log_completion != "never" and not isinstance(exc, GeneratorExit):
            wait.complete(exc, long is not None, self._home.loop.time(), frame)

    def _due(self) -> None:
        now = due = self._home.loop.time()
        try:
            for _ in range(BATCH):
                key = self._head()
                if key is None:
                    break
                head = self.waits[key]
                due = head[0] + self.gap
                if due > now:
                    break
                del self.waits[key]
                if len(head) == 2:
                    wait = head[1]
                else:
                    wait = self._long[key] = _LongWait(head)
                # The next complaint comes after twice this gap: a register of its own, in order again.
                wait.register = self._home.register(self.gap * 2)
                wait.key = wait.register.enter((now, wait))
                wait.complain(now)
        finally:
            if self.waits:
                self.arm(max(due, now))
            else:
                self.armed = False
                self._home.by_gap.pop(self.gap, None)

    def _head(self) -> int | None:
        waits, ahead = self.waits, self._ahead
        while waits:
            while ahead:
                if ahead[-1] in waits:
                    return ahead[-1]
                ahead.pop()
            ahead += reversed(waits)
        return None


class Registers:
    """The registers of one loop."""

    __slots__ = ("_limit", "by_gap", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.by_gap: dict[float, Register] = {}
        # Again on the loop itself, for those in a hurry.
        home: Any = loop
        home._async_plus_registers = self.by_gap
        self._limit = MANY

    def register(self, gap: float) -> Register:
        """Return the one for *gap*, made if there is none."""
        register = self.by_gap.get(gap)
        if register is None:
            if len(self.by_gap) >= self._limit:
                self._tidy()
            register = self.by_gap[gap] = Register(self, gap)
        return register

    def in_progress(self) -> list[Entry]:
        """Return all waits, long or not, the longest first. From any thread, and so perhaps while they change."""
        entries: list[Entry] = []
        for register in tuple(self.by_gap.values()):
            for entry in tuple(register.waits.values()):
                entries.append(entry if len(entry) != 2 else entry[1].entry)
        return sorted(entries, key=_since)

    def count_long(self) -> int:
        """Return how many waits are long, from any thread."""
        return sum(
            len(entry) == 2 for register in tuple(self.by_gap.values()) for entry in tuple(register.waits.values())
        )

    def _tidy(self) -> None:
        # Each goes by itself, but only when its timer fires, and many may be made until then:
        #
        #     await impatient(reply, log_after=deadline - loop.time())
        for gap, register in [*self.by_gap.items()]:
            if not register.waits and register.timer is not None:
                register.timer.cancel()
                del self.by_gap[gap]
        self._limit = max(MANY, 2 * len(self.by_gap))


def _since(entry: Entry) -> float:
    return entry[0]


def title_of(entry: Entry) -> str:
    """Name what is waited for."""
    return entry[4] or stacks.name_of(entry[2])


def place_of(entry: Entry, links: list[stacks.Link]) -> Place | None:
    """Return the line that waits; *links* are those of the task's chain."""
    wait = _LongWait(entry)
    return wait.find_place(links, wait.holder(links))


class _LongWait:
    """A wait of which there is something to tell."""

    __slots__ = (
        "_awaited",
        "_context",
        "_place",
        "_since",
        "_source",
        "_task",
        "entry",
        "key",
        "patience",
        "register",
    )

    # Where it is entered for the next complaint.
    register: Register
    key: int

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._since, self._task, self._awaited, self.patience, _, self._source, self._context = entry
        # Found when first told of; it cannot change while the wait lasts.
        self._place: Place | None = None

    def complain(self, now: float) -> None:
        """Report that the wait goes on, in the context of the task that waits."""
        level = self._level(logging.WARNING)
        if events.wanted(level):
            self._context_of_task().run(self._complain, level, now)

    def complete(self, exc: BaseException | None, long: bool, now: float, frame: FrameType | None) -> None:
        """Report how the wait ended, in *frame*."""
        level = self._level(logging.WARNING if long else logging.INFO)
        if not events.wanted(level):
            return
        outcome: Literal["returned", "raised", "cancelled"] = "returned"
        if exc is not None:
            outcome = "cancelled" if isinstance(exc, CancelledError) else "raised"
        events.emit(
            events.WaitOver(
                level=level,
                awaited=title_of(self.entry),
                after=now - self._since,
                task=task_name(self._task),
                waiting_at=self._place or self._choose(awaiting(frame)),
                outcome=outcome,
                exception=exc,
                long=long,
            )
        )

    def _level(self, default: int) -> int:
        level = self.patience.log_level
        return default if level is None else level

    def _context_of_task(self) -> Context:
        if sys.version_info >= (3, 12):  # pragma: >=3.12 cover
            # A copy, for a log handler's changes are not the task's.
            return self._task.get_context().copy()
        else:  # pragma: <3.12 cover
            return cast(Context, self._context)

    def _complain(self, level: int, now: float) -> None:
        chain = stacks.chain(self._task)
        holder = self.holder(chain.links)
        if self._place is None:
            self._place = self.find_place(chain.links, holder)
        events.emit(
            events.LongWait(
                level=level,
                awaited=title_of(self.entry),
                after=now - self._since,
                task=task_name(self._task),
                waiting_at=self._place,
                parked=chain.parked(holder or 0),
            )
        )

    def holder(self, links: list[stacks.Link]) -> int | None:
        """Find the frame that holds this wait open, among those that its task runs through.

        Only the garbage collector is asked what a frame holds: to read its variables would keep them alive.
        """
        if not isinstance(self._source, tuple):
            return next((i for i, link in enumerate(links) if _holds(link.owner, self.entry)), None)
        inside = [i for i, link in enumerate(links) if link.code is self._source[0]]
        # Entered by an AsyncExitStack, the block is held by a list of that.
        return next((i for i in inside if _holds(links[i].owner, self._awaited)), inside[-1] if inside else None)

    def find_place(self, links: list[stacks.Link], holder: int | None) -> Place | None:
        """Find the line that waits, in the task's chain of *links*; that numbered *holder* holds the wait open."""
        awaiters = links if holder is None else links[: holder + 1]
        return self._choose((link.code, link.lasti) for link in reversed(awaiters) if link.code)

    def _choose(self, spots: Iterable[Spot]) -> Place | None:
        """Choose from the spots that await, innermost first."""
        awaiters = [spot for spot in spots if is_user_code(spot[0])]
        if isinstance(self._source, tuple):
            # The line of the "async with", not the one that the block has come to. It may be missing: in a generator
            # that is suspended, say.
            if awaiters and awaiters[0][0] is self._source[0]:
                del awaiters[0]
            awaiters.insert(0, self._source)
        if awaiters:
            return Place.from_code(*awaiters[min(self.patience.stacklevel, len(awaiters) - 1)])
        # Nobody awaits it, such as a decorated function that is a task of its own.
        awaited = self._awaited
        for code in (self._source, awaited.cr_code if isinstance(awaited, CoroutineType) else None):
            if isinstance(code, CodeType) and is_user_code(code):
                return Place.from_code(code)
        return None


def _holds(owner: object, mine: object) -> bool:
    # The exit of an open block is held as a bound method or, in later Pythons, as the method and its object.
    return any(held is mine or (type(held) is MethodType and held.__self__ is mine) for held in gc.get_referents(owner))


def is_user_code(code: CodeType) -> bool:
    """Tell whether *code* is to be shown to the user."""
    return stacks.is_user_code(code.co_filename)


# Any other code is the loop, or whatever made an eager task.
_RESUMABLE = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR | inspect.CO_ITERABLE_COROUTINE


def awaiting(frame: FrameType | None) -> Iterator[Spot]:
    """Yield where those are that run in *frame* and above it, up to what steps their task."""
    while frame is not None and frame.f_code.co_flags & _RESUMABLE:
        yield frame.f_code, frame.f_lasti
        frame = frame.f_back
