"""What the engine reports: tasks that fail, tasks that are stuck, long waits."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar, Literal

from async_plus.events.event import Event, count_of, event
from async_plus.stacks import Parked, Place

__all__ = [
    "HandlerFailed",
    "LateFailure",
    "LongWait",
    "StuckTask",
    "StuckTasks",
    "TaskCancelled",
    "TaskFailed",
    "WaitOver",
]


@event
class TaskFailed(Event):
    """A watched task, or a task of a scope, raised an exception.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "task %r failed with %s, launched at %s"
    level: int = logging.ERROR
    task: str
    launched_at: Place
    exception: BaseException

    @property
    def args(self) -> tuple[object, ...]:
        return self.task, type(self.exception).__qualname__, self.launched_at

    @property
    def place(self) -> Place:
        return self.launched_at

    @property
    def traced(self) -> BaseException:
        return self.exception


@event
class TaskCancelled(Event):
    """A watched task, or a task of a scope, ended in a cancellation that nobody had requested.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "task %r was cancelled without a request to cancel it, launched at %s"
    level: int = logging.WARNING
    task: str
    launched_at: Place

    @property
    def args(self) -> tuple[object, ...]:
        return self.task, self.launched_at

    @property
    def place(self) -> Place:
        return self.launched_at


@event
class HandlerFailed(Event):
    """An ``on_exception`` handler raised. The failure it was given is reported beside it, as `TaskFailed`.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "on_exception handler %s of task %r failed with %s"
    level: int = logging.ERROR
    task: str
    handler: str
    exception: BaseException

    @property
    def args(self) -> tuple[object, ...]:
        return self.handler, self.task, type(self.exception).__qualname__

    @property
    def traced(self) -> BaseException:
        return self.exception


@event
class LateFailure(Event):
    """A task failed, and *owner*, which ends with another outcome, does not raise its error.

    An owner is, for example, "try_gather", "result_of" or "supervisor 'ingest'".

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "task %r failed with %s, not raised by %s: it ends otherwise"
    level: int = logging.ERROR
    task: str
    owner: str
    exception: BaseException

    @property
    def args(self) -> tuple[object, ...]:
        return self.task, type(self.exception).__qualname__, self.owner

    @property
    def traced(self) -> BaseException:
        return self.exception


@dataclass(frozen=True, slots=True)
class StuckTask:
    """A task that goes on after its cancellation, and where.

    .. versionadded:: 1.0
    """

    name: str
    parked: Parked

    def __str__(self) -> str:
        return f"{self.name!r} parked {self.parked}"


@event
class StuckTasks(Event):
    """Tasks still run *after* seconds since they were cancelled; *owner* goes on waiting for them.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "%s still waits for %s after %.1f s: %s"
    level: int = logging.WARNING
    owner: str
    after: float
    tasks: tuple[StuckTask, ...]

    @property
    def args(self) -> tuple[object, ...]:
        return self.owner, count_of(len(self.tasks), "cancelled task"), self.after, "; ".join(map(str, self.tasks))


@event
class LongWait(Event):
    """An impatient wait goes on; *after* is how many seconds it has lasted.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "Still waiting for %s after %.1f s %s; parked %s"
    level: int = logging.WARNING
    awaited: str
    after: float
    task: str
    waiting_at: Place | None
    parked: Parked

    @property
    def args(self) -> tuple[object, ...]:
        return self.awaited, self.after, _at(self.waiting_at, self.task), self.parked

    @property
    def place(self) -> Place | None:
        return self.waiting_at


@event
class WaitOver(Event):
    """An impatient wait is over; *after* is how many seconds it lasted.

    *exception* is None if it returned. *long* tells whether it was complained of.

    .. versionadded:: 1.0
    """

    format: ClassVar[str] = "%s %s %s after %.1f s"
    level: int
    awaited: str
    after: float
    task: str
    waiting_at: Place | None
    outcome: Literal["returned", "raised", "cancelled"]
    exception: BaseException | None
    long: bool

    @property
    def args(self) -> tuple[object, ...]:
        outcome = {
            "returned": "returned",
            "raised": f"raised {type(self.exception).__qualname__}",
            "cancelled": "was cancelled",
        }[self.outcome]
        return self.awaited, _at(self.waiting_at, self.task), outcome, self.after

    @property
    def place(self) -> Place | None:
        return self.waiting_at


def _at(place: Place | None, task: str) -> str:
    # Nobody's code awaits it when, for example, a future of C code is watched by a bare task.
    return f"at {place}" if place is not None else f"in task {task!r}"
