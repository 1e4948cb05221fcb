"""What type checkers make of events and of the places they name. Never run: mypy and pyright read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, assert_type

import async_plus
from async_plus import (
    AttemptFailed,
    AttemptReturned,
    AttemptStarted,
    Event,
    GaveUp,
    HandlerFailed,
    LateFailure,
    LongWait,
    NotifyFailed,
    Parked,
    Place,
    StopForced,
    Stopped,
    StopRequested,
    StuckTask,
    StuckTasks,
    SubscriberFailed,
    TaskCancelled,
    TaskFailed,
    ThreadsLeft,
    WaitOver,
    WouldNotStop,
    register_waiter,
    subscribe,
)

assert_type(async_plus.__version__, str)


def subscriber(event: Event) -> None:
    assert_type(event.level, int)
    assert_type(event.format, str)
    assert_type(event.args, tuple[object, ...])
    assert_type(event.place, Place | None)
    assert_type(event.traced, BaseException | None)
    assert_type(event.extra, dict[str, Any])
    match event:
        case TaskFailed():
            assert_type(event.task, str)
            assert_type(event.launched_at, Place)
            assert_type(event.exception, BaseException)
        case TaskCancelled():
            assert_type(event.launched_at, Place)
        case HandlerFailed():
            assert_type(event.handler, str)
        case LateFailure():
            assert_type(event.owner, str)
        case StuckTasks():
            assert_type(event.after, float)
            assert_type(event.tasks, tuple[StuckTask, ...])
            assert_type(event.tasks[0].name, str)
            assert_type(event.tasks[0].parked, Parked)
        case LongWait():
            assert_type(event.waiting_at, Place | None)
            assert_type(event.parked, Parked)
        case WaitOver():
            assert_type(event.outcome, Literal["returned", "raised", "cancelled"])
            assert_type(event.exception, BaseException | None)
            assert_type(event.long, bool)
        case AttemptStarted():
            assert_type(event.service, str)
            assert_type(event.attempt, int)
        case AttemptFailed():
            assert_type(event.ran_for, float)
            assert_type(event.exception, BaseException)
            assert_type(event.restart, int | None)
            assert_type(event.delay, float | None)
        case AttemptReturned():
            assert_type(event.restart, int)
            assert_type(event.delay, float)
        case GaveUp():
            assert_type(event.restarts, int)
            assert_type(event.exception, BaseException | None)
        case Stopped():
            assert_type(event.attempt, int)
        case WouldNotStop():
            assert_type(event.exit_code, int)
            assert_type(event.blocked_at, Place | None)
            assert_type(event.tasks, tuple[StuckTask, ...])
        case ThreadsLeft():
            assert_type(event.functions, tuple[str, ...])
        case StopRequested():
            assert_type((event.signal, event.drain, event.grace), tuple[str, float, float])
        case StopForced():
            assert_type((event.signal, event.exit_code), tuple[str, int])
        case NotifyFailed():
            assert_type(event.message, str)
            assert_type(event.exception, OSError)
        case SubscriberFailed():
            assert_type(event.subscriber, str)
            assert_type(event.event, str)
        case _:
            assert_type(event, Event)


assert_type(subscribe(subscriber), Callable[[], None])
assert_type(subscribe(lambda event: print(event.level)), Callable[[], None])


def places(place: Place, parked: Parked) -> None:
    assert_type(place.filename, str)
    assert_type(place.lineno, int)
    assert_type(place.function, str)
    assert_type(parked.place, Place | None)
    assert_type(parked.on, str)


class Pool:
    name = "pool"

    async def acquire(self) -> None: ...


def describe(variables: Mapping[str, Any]) -> str:
    return f"Pool.acquire of {variables['self'].name}"


assert_type(register_waiter(Pool.acquire, describe), None)
assert_type(register_waiter(Pool().acquire, lambda variables: "Pool.acquire"), None)
