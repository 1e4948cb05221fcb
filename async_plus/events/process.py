"""What `run` reports of the process: what holds up its end, and the service manager."""

from __future__ import annotations

import logging
from typing import ClassVar

from async_plus.events.engine import StuckTask
from async_plus.events.event import Event, count_of, event
from async_plus.stacks import Place

__all__ = ["NotifyFailed", "StopForced", "StopRequested", "ThreadsLeft", "WouldNotStop"]


@event
class StopRequested(Event):
    """The first *signal* came, so that the process stops in order: *drain*, then *grace*, in seconds.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "%s: stopping (drain %g s, grace %g s)"
    level: int = logging.INFO
    signal: str
    drain: float
    grace: float

    @property
    def args(self) -> tuple[object, ...]:
        return self.signal, self.drain, self.grace


@event
class StopForced(Event):
    """Another *signal* came during the stop, so that the process ends at once, with *exit_code*.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "%s during the stop: the process ends at once with code %d"
    level: int = logging.WARNING
    signal: str
    exit_code: int

    @property
    def args(self) -> tuple[object, ...]:
        return self.signal, self.exit_code


@event
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


@event
class ThreadsLeft(Event):
    """Calls in the threads of the default executor did not end, and the process goes on to exit without them.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "%s in threads left behind, not ended within %.1f s: %s"
    level: int = logging.WARNING
    after: float
    functions: tuple[str, ...]

    @property
    def args(self) -> tuple[object, ...]:
        return count_of(len(self.functions), "call"), self.after, ", ".join(self.functions)


@event
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
