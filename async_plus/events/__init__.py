"""What the library notices: typed events, their subscribers, and the logging that is the first of them.

Every event is a frozen dataclass of plain facts. The engine builds one and calls `emit`; it never logs itself, so that
log lines, metrics and a user's own alerts tell the same story. The words of a log line stand beside the facts they
are made of::

    unsubscribe = async_plus.subscribe(lambda event: print(type(event).__name__, event))

The modules:

    event.py            what all events have in common
    engine.py           those of tasks, scopes and waits
    loop.py             those of watched event loops
    supervision.py      those of services
    process.py          those of the process that runs them
    subscribers.py      who gets them
"""

from __future__ import annotations

from async_plus.events.engine import (
    HandlerFailed,
    LateFailure,
    LongWait,
    StuckTask,
    StuckTasks,
    TaskCancelled,
    TaskFailed,
    WaitOver,
)
from async_plus.events.event import Event
from async_plus.events.loop import BlockOver, LoopBlocked
from async_plus.events.process import NotifyFailed, StopForced, StopRequested, ThreadsLeft, WouldNotStop
from async_plus.events.subscribers import SubscriberFailed, emit, subscribe, wanted
from async_plus.events.supervision import (
    AttemptFailed,
    AttemptHung,
    AttemptReady,
    AttemptReturned,
    AttemptStarted,
    GaveUp,
    SiblingsRestarted,
    Stopped,
)

__all__ = [
    "AttemptFailed",
    "AttemptHung",
    "AttemptReady",
    "AttemptReturned",
    "AttemptStarted",
    "BlockOver",
    "Event",
    "GaveUp",
    "HandlerFailed",
    "LateFailure",
    "LongWait",
    "LoopBlocked",
    "NotifyFailed",
    "SiblingsRestarted",
    "StopForced",
    "StopRequested",
    "Stopped",
    "StuckTask",
    "StuckTasks",
    "SubscriberFailed",
    "TaskCancelled",
    "TaskFailed",
    "ThreadsLeft",
    "WaitOver",
    "WouldNotStop",
    "emit",
    "subscribe",
    "wanted",
]
