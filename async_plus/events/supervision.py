"""What the supervision reports: attempts of services, and how they end."""

from __future__ import annotations

import logging
from typing import ClassVar

from async_plus.events.event import Event, count_of, event
from async_plus.stacks import Parked, Place

__all__ = [
    "AttemptFailed",
    "AttemptHung",
    "AttemptReady",
    "AttemptReturned",
    "AttemptStarted",
    "GaveUp",
    "SiblingsRestarted",
    "Stopped",
]


@event
class AttemptStarted(Event):
    """A supervised service starts for the *attempt*-th time, the first being 1.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "%s started, attempt %d"
    level: int = logging.DEBUG
    service: str
    attempt: int

    @property
    def args(self) -> tuple[object, ...]:
        return self.service, self.attempt


@event
class AttemptReady(Event):
    """A service with ``ready=True`` called `ready`, *after* seconds of its attempt.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "%s is ready after %.1f s, attempt %d"
    level: int = logging.INFO
    service: str
    attempt: int
    after: float

    @property
    def args(self) -> tuple[object, ...]:
        return self.service, self.after, self.attempt


@event
class AttemptHung(Event):
    """A service with ``heartbeat=...`` was *silent_for* longer than that, in seconds, and is cancelled.

    Its failure follows when it has ended.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "%s hangs: no heartbeat for %.1f s, attempt %d is parked %s and is cancelled"
    level: int = logging.WARNING
    service: str
    attempt: int
    silent_for: float
    parked: Parked

    @property
    def args(self) -> tuple[object, ...]:
        return self.service, self.silent_for, self.attempt, self.parked

    @property
    def place(self) -> Place | None:
        return self.parked.place


@event
class AttemptFailed(Event):
    """An attempt failed after *ran_for* seconds, and restart number *restart* begins in *delay* seconds.

    *repeated* means that the attempt before it failed alike, with the same type at the same line; the traceback is
    then not logged again. *failed_at* is the innermost line outside the standard library and async_plus, if there is
    one. Both *restart* and *delay* are None if the supervision was stopped in the same moment.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "%s failed after %.1f s with %s, %s"
    level: int = logging.WARNING
    service: str
    attempt: int
    ran_for: float
    exception: BaseException
    failed_at: Place | None
    repeated: bool
    restart: int | None
    delay: float | None

    @property
    def args(self) -> tuple[object, ...]:
        if self.restart is None or self.delay is None:
            next_step = "not restarted: it is being stopped"
        else:
            next_step = f"restart {self.restart} in {self.delay:.1f} s"
        # Nobody should look for the traceback that is not there.
        same = "the same " if self.repeated else ""
        return self.service, self.ran_for, same + type(self.exception).__qualname__, next_step

    @property
    def place(self) -> Place | None:
        return self.failed_at

    @property
    def traced(self) -> BaseException | None:
        return None if self.repeated else self.exception


@event
class AttemptReturned(Event):
    """An attempt of a service with ``restart="always"`` returned after *ran_for* seconds.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "%s returned after %.1f s, restart %d in %.1f s"
    level: int = logging.INFO
    service: str
    attempt: int
    ran_for: float
    restart: int
    delay: float

    @property
    def args(self) -> tuple[object, ...]:
        return self.service, self.ran_for, self.restart, self.delay


@event
class GaveUp(Event):
    """A service is not restarted any more: its *restarts* used up its ``max_restarts``.

    Or, in a `Supervisor`, its error calls for no restart at all; *restartable* is then False.

    The last error propagates to whoever awaits the service, with its traceback, so that none is logged here. It is
    None if the service returned (``restart="always"``).

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "%s: the last attempt %s after %.1f s"
    level: int = logging.ERROR
    service: str
    restarts: int
    ran_for: float
    exception: BaseException | None
    failed_at: Place | None
    restartable: bool = True

    @property
    def args(self) -> tuple[object, ...]:
        exc = self.exception
        if self.restartable:
            end = f"gave up on {self.service} after {count_of(self.restarts, 'restart')}"
        else:
            end = f"{self.service} is not restarted"
        outcome = "returned" if exc is None else f"failed with {type(exc).__qualname__}"
        return end, outcome, self.ran_for

    @property
    def place(self) -> Place | None:
        return self.failed_at


@event
class Stopped(Event):
    """A supervised service was stopped: whoever awaits it was cancelled.

    *restart* is the one that it was waiting for, None if an attempt was running.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "%s stopped, %s"
    level: int = logging.INFO
    service: str
    attempt: int
    restart: int | None = None

    @property
    def args(self) -> tuple[object, ...]:
        return self.service, f"attempt {self.attempt}" if self.restart is None else f"before restart {self.restart}"


@event
class SiblingsRestarted(Event):
    """A supervisor stops the *siblings* of a child that ended, to start all of them again by its strategy.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "supervisor %r restarts %s with %s (%s)"
    level: int = logging.INFO
    supervisor: str
    strategy: str
    child: str
    siblings: tuple[str, ...]

    @property
    def args(self) -> tuple[object, ...]:
        return self.supervisor, ", ".join(self.siblings), self.child, self.strategy
