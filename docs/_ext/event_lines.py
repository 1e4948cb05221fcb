"""An example of each event, from which the reference shows what its line in the log looks like.

The words come from the event classes, so the pages follow them. ``tests/test_docs.py`` sees that no event is missing.
"""

from __future__ import annotations

import logging

from async_plus import events
from async_plus.events import Event
from async_plus.stacks import Parked, Place

__all__ = ["LINES"]

_CRAWL = Place("/app/crawl.py", 41, "crawl")
_POOL = Place("/app/pool.py", 88, "acquire")
_PARKED = Parked(_POOL, "Queue.get")
_REFUSED = ConnectionRefusedError()
_STUCK = (events.StuckTask("importer", _PARKED),)

_EXAMPLES: list[Event] = [
    events.TaskFailed(task="saver", launched_at=_CRAWL, exception=_REFUSED),
    events.TaskCancelled(task="saver", launched_at=_CRAWL),
    events.HandlerFailed(task="saver", handler="App.alert", exception=_REFUSED),
    events.LateFailure(task="saver", owner="try_gather", exception=_REFUSED),
    events.StuckTasks(owner="task_scope 'importers'", after=5.0, tasks=_STUCK),
    events.LongWait(awaited="fetch", after=5.0, task="Task-1", waiting_at=_CRAWL, parked=_PARKED),
    *(
        events.WaitOver(
            level=level,
            awaited="fetch",
            after=after,
            task="Task-1",
            waiting_at=_CRAWL,
            outcome=outcome,
            exception=_REFUSED,
            long=level == logging.WARNING,
        )
        for level, after, outcome in (
            (logging.WARNING, 12.3, "returned"),
            (logging.WARNING, 12.3, "raised"),
            (logging.INFO, 0.2, "cancelled"),
        )
    ),
    events.AttemptStarted(service="feed", attempt=3),
    events.AttemptReady(service="feed", attempt=3, after=1.3),
    events.AttemptHung(service="feed", attempt=3, silent_for=30.0, parked=_PARKED),
    *(
        events.AttemptFailed(
            service="feed",
            attempt=3,
            ran_for=3.2,
            exception=_REFUSED,
            failed_at=_POOL,
            repeated=repeated,
            restart=restart,
            delay=delay,
        )
        for repeated, restart, delay in ((False, 3, 10.4), (True, 4, 60.0), (False, None, None))
    ),
    events.AttemptReturned(service="feed", attempt=2, ran_for=1.0, restart=2, delay=1.0),
    *(
        events.GaveUp(
            service="feed",
            restarts=restarts,
            ran_for=0.4,
            exception=error,
            failed_at=None,
            restartable=restartable,
        )
        for restarts, error, restartable in ((5, _REFUSED, True), (5, None, True), (0, _REFUSED, False))
    ),
    *(events.Stopped(service="feed", attempt=3, restart=restart) for restart in (None, 3)),
    events.SiblingsRestarted(supervisor="shop", strategy="rest_for_one", child="database", siblings=("feed", "web")),
    events.LoopBlocked(blocked_for=0.53, task="feed", blocked_at=_CRAWL, stack=(_CRAWL,)),
    *(events.BlockOver(blocked_for=2.04, seen=seen, task="feed", blocked_at=_CRAWL) for seen in (True, False)),
    events.StopRequested(signal="SIGTERM", drain=0, grace=10),
    events.StopForced(signal="SIGTERM", exit_code=143),
    *(
        events.WouldNotStop(after=10.0, exit_code=70, blocked_at=place, tasks=tasks)
        for place, tasks in ((None, _STUCK), (_CRAWL, ()))
    ),
    events.ThreadsLeft(after=10.0, functions=("fetch", "Pool.work")),
    events.NotifyFailed(message="READY=1", exception=ConnectionRefusedError(111, "Connection refused")),
    events.SubscriberFailed(subscriber="App.count", event="AttemptFailed", exception=KeyError()),
]

# By their types, in the order above.
LINES: dict[type[Event], list[Event]] = {}
for _event in _EXAMPLES:
    LINES.setdefault(type(_event), []).append(_event)
