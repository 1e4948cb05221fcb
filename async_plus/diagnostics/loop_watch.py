"""`watch_loop`: what blocks the event loop, found while it does."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
import weakref
from contextvars import Context
from dataclasses import dataclass
from types import CoroutineType, FrameType, TracebackType
from typing import Any, Self

from async_plus import _checks, events
from async_plus.engine.per_loop import per_loop
from async_plus.stacks import Place, is_user_code
from async_plus.stacks.names import coroutine_of, name_of_task

__all__ = ["LoopWatch", "watch_loop", "watches_of"]

# Seconds between two heartbeats, unless the threshold asks for more of them.
BEAT = 0.25

# Seconds after which the thread looks at the latest whether its loop still exists.
_LOOK = 1.0

# Seconds by which a look may be late, before it is taken for held up together with the loop.
_HELD_UP = 0.05

# Looks at a stack that may change meanwhile, until the task and the stack belong together.
_TRIES = 3

# Lines of a report: a recursion may be deep.
_LINES = 20


def watch_loop(threshold: float = 0.5) -> LoopWatch:
    """Watch the running event loop from a thread, and report what blocks it while it does.

        WARNING event loop blocked 0.53 s in task 'feed' at /app/parse.py:12 in decode

    The loop beats four times a second, or as often as the threshold needs. When a beat is *threshold* seconds late,
    `LoopBlocked` names the line that the loop's thread is at, be it in Python or in a C call that lets other threads
    run. It is reported again at doubling gaps, and `BlockOver` tells how long it was in all. (A C call that keeps the
    GIL lets no thread look; that is then told with it.) Time is counted from the beat that did not come, so a block may
    have begun up to a quarter of a second before, and is never shorter than said.

    Nothing is patched, and no debug mode needed. It ends with the loop. After a fork it watches in the parent only.

    Args:
        threshold: Seconds.

    Returns:
        A handle with `LoopWatch.lag` and `LoopWatch.stop`, which is a ``with`` block too.

    Raises:
        RuntimeError: No event loop is running.
        TypeError: *threshold* is not a number.
        ValueError: *threshold* is not a finite number above zero.

    .. versionadded:: 1.0
    """
    seconds = _checks.seconds("threshold", threshold, above_zero=True)
    loop = asyncio._get_running_loop()
    if loop is None:
        fix = "call it in a coroutine, or use run(watch_loop=0.5)"
        raise RuntimeError(f"watch_loop() needs a running event loop: {fix}")
    return LoopWatch(loop, seconds)


@dataclass(frozen=True, slots=True)
class _Over:
    """Say that the beat which was *due* came at last, *lag* seconds late."""

    due: float
    lag: float


class LoopWatch:
    """A watched event loop: what `watch_loop` returns.

    .. versionadded:: 1.0
    """

    # Each has a thread of its own. A process has one loop, rarely more, and threads for these anyway; one for all of
    # them would have to be told of each that comes and goes.

    __slots__ = (
        "__weakref__",
        "_base",
        "_context",
        "_due",
        "_interval",
        "_is_stopped",
        "_lag",
        "_loop",
        "_next_look",
        "_next_report",
        "_not_run_until",
        "_orders",
        "_seen",
        "_spared",
        "_thread",
        "_thread_id",
        "_timer",
        "threshold",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, threshold: float) -> None:
        self.threshold = threshold
        self._interval = min(BEAT, threshold / 2)
        # The thread must not keep a loop that nobody needs any more.
        self._loop = weakref.ref(loop)
        self._thread_id = threading.get_ident()
        # By its id, the frame that runs the loop: what is further out does not block it.
        self._base = 0
        self._lag = 0.0
        self._due = time.monotonic()
        self._is_stopped = False
        # The timer belongs to no task, least of all to the one that happens to set it.
        self._context = Context()
        # What follows is the thread's own. A loop that nobody runs is not blocked:
        #
        #     runner.run(first())
        #     input("go on? ")
        #     runner.run(second())
        self._not_run_until = self._due
        self._next_look = self._due + threshold
        self._next_report = threshold
        self._seen: tuple[float, str | None, Place | None] | None = None
        self._spared: float | None = None
        # No lock that could be held in a fork, and then for ever in the child.
        self._orders: queue.SimpleQueue[_Over | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=_watch, args=(weakref.ref(self), self._orders, threshold), name="async_plus loop watch", daemon=True
        )
        self._thread.start()
        self._timer: asyncio.Handle = loop.call_soon(self._beat, context=self._context)
        per_loop(loop, _Watches).all[self] = None

    def __repr__(self) -> str:
        state = "stopped" if self._is_stopped else f"lag={self.lag:.3f}"
        return f"<LoopWatch threshold={self.threshold:g} {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def lag(self) -> float:
        """How many seconds the loop was late for its last beat, or is by now for the next one if that is more.

        It may be read in any thread.
        """
        return max(self._lag, self.overdue)

    @property
    def overdue(self) -> float:
        """How many seconds the loop is late for its next beat; 0.0 if it is not, or nobody runs it."""
        loop = self._loop()
        if self._is_stopped or loop is None or not loop.is_running():
            return 0.0
        return max(0.0, self._late(time.monotonic()))

    def stop(self) -> None:
        """End the watch. It may be called in any thread, and more than once."""
        if self._is_stopped:
            return
        self._is_stopped = True
        self._orders.put(None)
        loop = self._loop()
        if loop is None:
            return
        per_loop(loop, _Watches).all.pop(self, None)
        if asyncio._get_running_loop() is loop:
            self._timer.cancel()
            return
        try:
            loop.call_soon_threadsafe(self._timer.cancel)
        except RuntimeError:
            pass  # the loop is closed

    # In the loop.

    def _beat(self) -> None:
        now = time.monotonic()
        due = self._due
        lag = self._late(now)
        self._lag = max(0.0, lag)
        self._due = now + self._interval
        self._thread_id = threading.get_ident()
        self._base = _frame_of_loop(sys._getframe().f_back)
        # The thread may have found this beat late although, by our own clock, it was not quite.
        if lag >= self.threshold or (self._seen is not None and self._seen[0] == due):
            self._orders.put(_Over(due, lag))
        loop = self._loop()
        if loop is not None and not self._is_stopped:
            self._timer = loop.call_later(self._interval, self._beat, context=self._context)

    def _late(self, now: float) -> float:
        return now - max(self._due, self._not_run_until)

    # In the thread.

    def _turn(self, over: _Over | None) -> float | None:
        if over is not None:
            self._report_over(over)
        return self._look(time.monotonic())

    def _look(self, now: float) -> float | None:
        """Report a block if there is one, and return the seconds until the next look, None for no more."""
        loop = self._loop()
        if self._is_stopped or loop is None or loop.is_closed():
            return None
        if not loop.is_running():
            self._not_run_until = now
        held_up = now - self._next_look
        due = self._due
        if self._seen is None or self._seen[0] != due:
            self._next_report = self.threshold
        late = self._late(now)
        pause = self._next_report - late
        if pause <= 0:
            if held_up > _HELD_UP and self._spared != due:
                # The whole process was stopped, or a C call kept the GIL. If that is over, the loop needs a moment to
                # beat, and would be found doing nothing, or something else.
                self._spared = due
                pause = self._interval
            else:
                self._report(loop, due, late)
                self._next_report = late * 2
                pause = late
        pause = min(pause, _LOOK)
        self._next_look = now + pause
        return pause

    def _report(self, loop: asyncio.AbstractEventLoop, due: float, late: float) -> None:
        task, stack = _running(loop, self._thread_id, self._base)
        place = stack[-1] if stack else None
        # In this order, that of _beat() being the other one: whatever is reported is known there to be over.
        before, self._seen = self._seen, (due, task, place)
        # By now it may have gone on, and this be something else.
        if self._due != due or self._is_stopped:
            self._seen = before
        else:
            events.emit(events.LoopBlocked(blocked_for=late, task=task, blocked_at=place, stack=stack))

    def _report_over(self, over: _Over) -> None:
        task = place = None
        seen = False
        if self._seen is not None and self._seen[0] == over.due:
            seen, (_, task, place) = True, self._seen
        elif over.lag < self.threshold * 2:
            return  # it went on just when we looked
        events.emit(events.BlockOver(blocked_for=over.lag, seen=seen, task=task, blocked_at=place))


def _watch(ref: weakref.ref[LoopWatch], orders: queue.SimpleQueue[_Over | None], pause: float | None) -> None:
    while pause is not None:
        over = None
        try:
            over = orders.get(timeout=pause)
        except queue.Empty:
            pass
        # Not in the meantime: its timer leads to the loop.
        watch = ref()
        pause = None if watch is None else watch._turn(over)
        del watch


class _Watches:
    """The watches of one loop."""

    __slots__ = ("all",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.all: dict[LoopWatch, None] = {}


def watches_of(loop: asyncio.AbstractEventLoop) -> tuple[LoopWatch, ...]:
    """Return the watches of *loop*, in any thread."""
    return tuple(per_loop(loop, _Watches).all)


# What asyncio's own loops put between the function that runs them and a callback: other frames each time.
_BETWEEN = frozenset({"_run", "_run_once"})


def _frame_of_loop(frame: FrameType | None) -> int:
    """Return the id of the frame that runs the loop in which *frame* runs a callback."""
    while frame is not None and frame.f_code.co_name in _BETWEEN:
        frame = frame.f_back
    return id(frame)


def _running(loop: asyncio.AbstractEventLoop, thread: int, base: int) -> tuple[str | None, tuple[Place, ...]]:
    """Return the name of the task that *loop* runs in *thread*, None in a callback, and the lines it is at.

    Both may change while they are read here. A name is given only if the coroutine of the task is on the stack.
    """
    frames: list[FrameType] = []
    name = None
    for _ in range(_TRIES):
        frames = _stack(thread, base)
        task = asyncio.current_task(loop)
        if task is None:
            break
        if _is_on(frames, task):
            name = name_of_task(task)
            break
    spots = [(frame.f_code, frame.f_lasti) for frame in frames]
    users = [spot for spot in spots if is_user_code(spot[0].co_filename)] or spots[:1]
    return name, tuple(Place.from_code(*spot) for spot in reversed(users[:_LINES]))


def _stack(thread: int, base: int) -> list[FrameType]:
    """Return the frames of *thread* within that with the id *base*, the innermost first."""
    frames: list[FrameType] = []
    frame = sys._current_frames().get(thread)
    while frame is not None and id(frame) != base:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _is_on(frames: list[FrameType], task: asyncio.Task[Any]) -> bool:
    coro = coroutine_of(task)
    if not isinstance(coro, CoroutineType):
        return True  # compiled, so that it is on no stack of Python's
    mine: FrameType | None = coro.cr_frame
    return any(frame is mine for frame in frames)
