"""Async-related stuff you miss in the standard library: supervision for asyncio services.

How the house is built. Each floor imports from those below it, never from above or beside:

    cli, testing              the edges: the command async-plus; a virtual clock and fixtures for users' own tests
    decorators                @watched @supervised @impatient @entry_point; the only user of wrapt
    runner/                   run(): signals, exit codes, what is left when main has ended
    supervision/              policy, vitals, history, restarts, supervisor
    engine/                   owned, gather, watch, scope, delayer, patience over long_waits; per_loop below them
    events                    what happened, who wants to know; the only one that logs
    stacks/                   where a task is parked, and on what
    _coroutines, _checks      arguments and coroutines as objects
"""

from __future__ import annotations

from async_plus._version import __version__
from async_plus.decorators import entry_point, impatient, supervised, watched
from async_plus.engine.delayer import RetryDelayer
from async_plus.engine.gather import try_gather
from async_plus.engine.owned import UnexpectedCancellation, cancel_and_wait
from async_plus.engine.scope import task_scope
from async_plus.engine.watch import ignore, launch_watched
from async_plus.events import (
    AttemptFailed,
    AttemptHung,
    AttemptReady,
    AttemptReturned,
    AttemptStarted,
    Event,
    GaveUp,
    HandlerFailed,
    LateFailure,
    LongWait,
    NotifyFailed,
    SiblingsRestarted,
    Stopped,
    StuckTask,
    StuckTasks,
    SubscriberFailed,
    TaskCancelled,
    TaskFailed,
    ThreadsLeft,
    WaitOver,
    WouldNotStop,
    subscribe,
)
from async_plus.runner import run, stopping
from async_plus.stacks import Parked, Place, register_waiter
from async_plus.supervision.child import Child, ChildState
from async_plus.supervision.supervisor import Supervisor
from async_plus.supervision.vitals import Hung, heartbeat, ready

__all__ = [
    "AttemptFailed",
    "AttemptHung",
    "AttemptReady",
    "AttemptReturned",
    "AttemptStarted",
    "Child",
    "ChildState",
    "Event",
    "GaveUp",
    "HandlerFailed",
    "Hung",
    "LateFailure",
    "LongWait",
    "NotifyFailed",
    "Parked",
    "Place",
    "RetryDelayer",
    "SiblingsRestarted",
    "Stopped",
    "StuckTask",
    "StuckTasks",
    "SubscriberFailed",
    "Supervisor",
    "TaskCancelled",
    "TaskFailed",
    "ThreadsLeft",
    "UnexpectedCancellation",
    "WaitOver",
    "WouldNotStop",
    "__version__",
    "cancel_and_wait",
    "entry_point",
    "heartbeat",
    "ignore",
    "impatient",
    "launch_watched",
    "ready",
    "register_waiter",
    "run",
    "stopping",
    "subscribe",
    "supervised",
    "task_scope",
    "try_gather",
    "watched",
]
