"""What `run` reports of the process: what holds up its end, and the service manager."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

from async_plus.events.engine import StuckTask
from async_plus.events.event import Event
from async_plus.stacks import Place

__all__ = ["NotifyFailed", "ThreadsLeft", "WouldNotStop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldNotStop(Event):
    """The process was told to stop *after* seconds ago, did not, and now ends with *exit_code*.

    *blocked_at* is the line that keeps the event loop from running anything, if there is one. *tasks* are those that
    wait for no other task that is left.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "not stopped after %.1f s, so the process ends with code %d: %s"
    level: int = logging.CRITICAL
    after: float
    exit_code: int
    blocked_at: Place | None
    tasks: tuple[StuckTask, ...]

    @property
    def args(self) -> tuple[object, ...]:
        blocked = () if self.blocked_at is None else (f"the event loop is blocked at {self.blocked_at}",)
        what = "; ".join((*blocked, *map(str, self.tasks)))
        return self.after, self.exit_code, what or "no task is left, but the event loop does not end"

    @property
    def place(self) -> Place | None:
        return self.blocked_at


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadsLeft(Event):
    """Calls in the threads of the default executor did not end, and the process goes on to exit without them.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "%d call(s) in threads did not end within %.1f s and are left behind: %s"
    level: int = logging.WARNING
    after: float
    functions: tuple[str, ...]

    @property
    def args(self) -> tuple[object, ...]:
        return len(self.functions), self.after, ", ".join(self.functions)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyFailed(Event):
    """The service manager could not be told *message*. This is reported for the first message only.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "cannot tell the service manager %s: %s"
    level: int = logging.WARNING
    message: str
    exception: OSError

    @property
    def args(self) -> tuple[object, ...]:
        # Its text names no more than the error of the system.
        return self.message, self.exception.strerror or type(self.exception).__qualname__
