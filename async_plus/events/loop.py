"""What `watch_loop` reports: blocks of the event loop."""

from __future__ import annotations

import logging
from typing import ClassVar

from async_plus.events.event import Event, event
from async_plus.stacks import Place

__all__ = ["BlockOver", "LoopBlocked"]


@event
class LoopBlocked(Event):
    """An event loop has done nothing else for *blocked_for* seconds, and is still blocked.

    *task* is the name of the task whose step it is, None in a callback. *blocked_at* is the innermost line outside the
    standard library and async_plus, or of all if there is none, and None if there is no line of Python at all. *stack*
    are the lines that led there, the outermost first.

    It is reported from a thread: nothing can be done in the loop.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "event loop blocked %.2f s %s"
    level: int = logging.WARNING
    blocked_for: float
    task: str | None
    blocked_at: Place | None
    stack: tuple[Place, ...]

    @property
    def args(self) -> tuple[object, ...]:
        return self.blocked_for, _in(self.task, self.blocked_at)

    @property
    def place(self) -> Place | None:
        return self.blocked_at


@event
class BlockOver(Event):
    """An event loop goes on, after it was blocked for *blocked_for* seconds.

    *task* and *blocked_at* are those of the last `LoopBlocked` before it. It was not *seen* if there was none, because
    the thread that watches the loop could not run either.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "event loop was blocked %.2f s, %s"
    level: int = logging.WARNING
    blocked_for: float
    seen: bool
    task: str | None
    blocked_at: Place | None

    @property
    def args(self) -> tuple[object, ...]:
        if self.seen:
            where = f"last seen {_in(self.task, self.blocked_at)}"
        else:
            where = "and so were all threads (by C code that keeps the GIL, or the process was stopped)"
        return self.blocked_for, where

    @property
    def place(self) -> Place | None:
        return self.blocked_at


def _in(task: str | None, place: Place | None) -> str:
    who = "in a callback" if task is None else f"in task {task!r}"
    return f"{who}, at no line of Python" if place is None else f"{who} at {place}"
