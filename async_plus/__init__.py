"""Async-related stuff you miss in the standard library: supervision for asyncio services.

How the house is built. Each floor imports from those below it, never from above or beside:

    cli, prometheus, testing  the edges: the command async-plus; metrics; a virtual clock and fixtures for users' tests
    decorators                @watched @supervised @impatient @entry_point; the only user of wrapt
    runner/                   run(): signals, exit codes, what is left when main has ended
    diagnostics/              snapshot, dump_on_signal, watch_loop, health
    supervision/              policy, vitals, history, restarts, supervisor
    engine/                   owned, gather, foreign, watch, scope, delayer, patience, long_waits; per_loop, first_hand
    events                    what happened, who wants to know; the only one that logs
    stacks/                   where a task is parked, and on what
    _coroutines, _signals     coroutines and signals as objects, over _checks of arguments
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

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
    BlockOver,
    Event,
    GaveUp,
    HandlerFailed,
    LateFailure,
    LongWait,
    LoopBlocked,
    NotifyFailed,
    SiblingsRestarted,
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
    subscribe,
)
from async_plus.runner import run, stopping
from async_plus.stacks import Parked, Place, register_waiter
from async_plus.supervision.vitals import Hung, heartbeat, ready

if TYPE_CHECKING:
    from async_plus.diagnostics.dump import SignalDump, dump_on_signal
    from async_plus.diagnostics.health import Health, health
    from async_plus.diagnostics.loop_watch import LoopWatch, watch_loop
    from async_plus.diagnostics.parts import ScopeInfo, ServiceInfo, SupervisorInfo, TaskInfo, WaitCycle, WaitInfo
    from async_plus.diagnostics.report import Snapshot
    from async_plus.diagnostics.snapshot import snapshot
    from async_plus.engine.foreign import result_of
    from async_plus.supervision.child import Child, ChildState
    from async_plus.supervision.supervisor import Supervisor

__all__ = [
    "AttemptFailed",
    "AttemptHung",
    "AttemptReady",
    "AttemptReturned",
    "AttemptStarted",
    "BlockOver",
    "Child",
    "ChildState",
    "Event",
    "GaveUp",
    "HandlerFailed",
    "Health",
    "Hung",
    "LateFailure",
    "LongWait",
    "LoopBlocked",
    "LoopWatch",
    "NotifyFailed",
    "Parked",
    "Place",
    "RetryDelayer",
    "ScopeInfo",
    "ServiceInfo",
    "SiblingsRestarted",
    "SignalDump",
    "Snapshot",
    "StopForced",
    "StopRequested",
    "Stopped",
    "StuckTask",
    "StuckTasks",
    "SubscriberFailed",
    "Supervisor",
    "SupervisorInfo",
    "TaskCancelled",
    "TaskFailed",
    "TaskInfo",
    "ThreadsLeft",
    "UnexpectedCancellation",
    "WaitCycle",
    "WaitInfo",
    "WaitOver",
    "WouldNotStop",
    "__version__",
    "cancel_and_wait",
    "dump_on_signal",
    "entry_point",
    "health",
    "heartbeat",
    "ignore",
    "impatient",
    "launch_watched",
    "ready",
    "register_waiter",
    "result_of",
    "run",
    "snapshot",
    "stopping",
    "subscribe",
    "supervised",
    "task_scope",
    "try_gather",
    "watch_loop",
    "watched",
]

# Imported when they are asked for: most programs never do, and would wait for them at every start. What tells of a
# failure is not among them, since a process that has run out of open files, say, can import nothing any more.
_LATE = {
    "Child": "async_plus.supervision.child",
    "ChildState": "async_plus.supervision.child",
    "Health": "async_plus.diagnostics.health",
    "LoopWatch": "async_plus.diagnostics.loop_watch",
    "ScopeInfo": "async_plus.diagnostics.parts",
    "ServiceInfo": "async_plus.diagnostics.parts",
    "SignalDump": "async_plus.diagnostics.dump",
    "Snapshot": "async_plus.diagnostics.report",
    "Supervisor": "async_plus.supervision.supervisor",
    "SupervisorInfo": "async_plus.diagnostics.parts",
    "TaskInfo": "async_plus.diagnostics.parts",
    "WaitCycle": "async_plus.diagnostics.parts",
    "WaitInfo": "async_plus.diagnostics.parts",
    "dump_on_signal": "async_plus.diagnostics.dump",
    "health": "async_plus.diagnostics.health",
    "result_of": "async_plus.engine.foreign",
    "snapshot": "async_plus.diagnostics.snapshot",
    "watch_loop": "async_plus.diagnostics.loop_watch",
}


def __getattr__(name: str) -> object:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_LATE[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
