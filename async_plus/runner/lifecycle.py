"""From the first step of main to the end of the loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import signal
import sys
import threading
from asyncio import CancelledError, Task
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from async_plus import events, stacks
from async_plus._signals import signal_name
from async_plus.diagnostics.loop_watch import LoopWatch
from async_plus.engine.owned import is_exit, task_name
from async_plus.runner.exits import WOULD_NOT_STOP, signalled
from async_plus.runner.leftover import culprits, stop_leftover
from async_plus.runner.notify import notifying
from async_plus.runner.options import Options
from async_plus.runner.signals import dumping, handling, may_handle, waking
from async_plus.runner.stopping import stop_event
from async_plus.runner.threads import DaemonPool
from async_plus.runner.watchdog import Watchdog
from async_plus.stacks import Place, is_user_code

__all__ = ["Lifecycle"]

_T = TypeVar("_T")

# How many seconds later than the loop's own timer the watchdog comes. The timer tells more, if the loop still runs it.
_BLOCKED = 0.25

# Seconds that are left for the last steps, in which nothing of the user's should run, when the time is up already.
_LAST_STEPS = 1.0


class Lifecycle(Generic[_T]):
    """One `run`.

    What is thrown out of the loop, or comes out of main, is kept until all has stopped. The first of these is raised
    then; what else fails is logged.
    """

    def __init__(self, coro: Coroutine[Any, Any, _T], options: Options) -> None:
        self._grace = options.grace
        self._drain = options.drain
        self._dump_signal = options.dump_signal
        self._watch_loop = options.watch_loop
        # It makes the loop, and closes what else there is to close.
        self._runner = asyncio.Runner(debug=options.debug, loop_factory=options.loop_factory)
        self._loop = self._runner.get_loop()
        try:
            self._pool = DaemonPool()
            self._loop.set_default_executor(self._pool)
            self._main: Task[_T] = self._loop.create_task(coro, name=stacks.name_of(coro))
        except BaseException:
            # A task factory that fails would fail the closing as well.
            self._loop.set_task_factory(None)
            self._runner.close()
            raise
        self._thread = threading.get_ident()
        self._watchdog: Watchdog | None = None
        self._tell_stopping: Callable[[], None] = _tell_nobody
        self._phase: Task[Any] | None = None
        self._signum: int | None = None
        self._error: BaseException | None = None
        self._breakdowns = 0
        self._stopping = False
        # By the loop's clock, from the moment that main has been cancelled or has ended.
        self._deadline = math.inf
        self._is_overtime = False
        self._late: asyncio.TimerHandle | None = None

    def run(self) -> _T:
        """Run main, stop what is left, and return or raise what came of it."""
        try:
            if may_handle():
                self._run_process()
            else:
                with contextlib.closing(self._runner):
                    self._run_to_the_end()
            if self._error is not None:
                raise self._error
            if self._signum == signal.SIGINT:
                raise KeyboardInterrupt
            if self._signum is not None:
                raise SystemExit(0)
            return self._main.result()
        finally:
            # The traceback of what is raised leads to this frame.
            self._error = None
            del self

    def _run_process(self) -> None:
        watchdog = self._watchdog = Watchdog(WOULD_NOT_STOP, self._tell_where_it_is_blocked)
        try:
            with notifying(self._loop) as notifier:
                self._tell_stopping = notifier.stopping
                on_signal = functools.partial(self._on_signal, watchdog)
                with (
                    handling(on_signal),
                    dumping(self._dump_signal, self._loop),
                    contextlib.closing(self._runner),
                    waking(self._loop),
                ):
                    self._run_to_the_end()
        finally:
            watchdog.end()

    def _run_to_the_end(self) -> None:
        if self._watch_loop is None:
            self._run_all_phases()
            return
        with LoopWatch(self._loop, self._watch_loop):
            self._run_all_phases()

    def _run_all_phases(self) -> None:
        self._drive(self._main)
        self._note_outcome()
        self._tell_stopping()
        self._begin_grace()
        self._drive(self._start(stop_leftover()))
        # The cleanup of a generator may leave tasks, too.
        self._drive(self._start(self._loop.shutdown_asyncgens()))
        self._drive(self._start(stop_leftover()))
        self._drive(self._start(self._finish_threads()))
        # Has nothing to wait for, unless main has set an executor of its own.
        self._drive(self._start(self._loop.shutdown_default_executor()))

    def _start(self, coro: Coroutine[Any, Any, None]) -> Task[None]:
        self._phase = self._loop.create_task(coro)
        return self._phase

    def _drive(self, task: Task[Any]) -> None:
        """Run the loop until *task* is done, whatever is thrown out of it meanwhile."""
        while not task.done():
            try:
                self._loop.run_until_complete(task)
            except BaseException as exc:
                if not task.done() or not _is_outcome(exc, task):
                    self._take_thrown(exc)
        if task is not self._main and not task.cancelled() and (error := task.exception()) is not None:
            self._take(error, task)

    def _take_thrown(self, exc: BaseException) -> None:
        """Take what came out of the loop itself.

        SystemExit and KeyboardInterrupt, which the loop lets through wherever they are raised, stop everything in
        order. So does a loop that breaks down, once:

            loop.stop()     # main has not ended, says the loop
        """
        if not is_exit(exc):
            self._breakdowns += 1
            if self._breakdowns > 1:
                raise exc
        if self._error is None:
            self._error = exc
        self._stop()

    def _take(self, error: BaseException, task: Task[Any]) -> None:
        """Take the failure of *task* for the outcome, or log it if there is one."""
        if self._error is None:
            self._error = error
        elif error is not self._error and not is_exit(error):
            events.emit(events.LateFailure(task=task_name(task), owner="run", exception=error))

    def _note_outcome(self) -> None:
        if not self._main.cancelled() and (error := self._main.exception()) is not None:
            self._take(error, self._main)

    # The stop.

    def _on_signal(self, watchdog: Watchdog, signum: int) -> None:
        """Handle a signal. This may have interrupted anything, so that no lock must be taken."""
        if self._signum is not None:
            code = signalled(signum)
            event = events.StopForced(signal=signal_name(signum), exit_code=code)
            watchdog.exit(code, functools.partial(events.emit, event))
            return
        self._signum = signum
        self._tell_stopping()
        # The loop may be blocked, and not come to set a time itself.
        watchdog.within(self._drain + self._grace + _BLOCKED)
        # It may also be closed already.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop_by, signal_name(signum))

    def _stop_by(self, name: str) -> None:
        events.emit(events.StopRequested(signal=name, drain=self._drain, grace=self._grace))
        self._stop()

    def _stop(self) -> None:
        """Begin to stop, in the order that is promised."""
        if self._stopping:
            return
        self._stopping = True
        self._tell_stopping()
        stop_event(self._loop).set()
        if self._drain and not self._breakdowns:
            self._loop.call_later(self._drain, self._cancel_main)
        else:
            self._cancel_main()

    def _cancel_main(self) -> None:
        self._main.cancel()
        self._begin_grace()

    def _begin_grace(self) -> None:
        if self._deadline == math.inf:
            self._deadline = self._loop.time() + self._grace
            self._end_within(self._grace)

    def _end_within(self, seconds: float) -> None:
        if self._late is not None:
            self._late.cancel()
        if self._watchdog is not None:
            self._late = self._loop.call_later(seconds, self._give_up, self._watchdog)
            self._watchdog.within(seconds + _BLOCKED)

    async def _finish_threads(self) -> None:
        left = max(0.0, self._deadline - self._loop.time())
        # In a thread that is waited for as those in the pool are, which may need the loop until they are done.
        waiting = DaemonPool()
        try:
            names = await self._loop.run_in_executor(waiting, self._pool.finish, left)
        finally:
            waiting.shutdown(wait=False)
        if names:
            events.emit(events.ThreadsLeft(after=self._grace, functions=names))

    # The end, if it does not stop.

    def _give_up(self, watchdog: Watchdog) -> None:
        """End the process. The loop calls this, so it still runs: the tasks are to blame."""
        event = self._what_would_not_stop(None)
        if not event.tasks and not self._is_overtime:
            # All tasks have stopped, and the rest is ours. Threads get no more time than they have had.
            self._is_overtime = True
            self._end_within(_LAST_STEPS)
        else:
            watchdog.exit(WOULD_NOT_STOP, functools.partial(events.emit, event))

    def _tell_where_it_is_blocked(self) -> None:
        """Say the last words, in another thread, since the loop itself did not."""
        events.emit(self._what_would_not_stop(_place_in(self._thread)))

    def _what_would_not_stop(self, blocked_at: Place | None) -> events.WouldNotStop:
        tasks = culprits(self._loop, self._phase)
        return events.WouldNotStop(
            after=self._grace,
            exit_code=WOULD_NOT_STOP,
            blocked_at=blocked_at,
            tasks=tuple(events.StuckTask(task_name(task), stacks.parked(task)) for task in tasks),
        )


def _tell_nobody() -> None:
    """Outside of the main thread no service manager is told anything."""


def _is_outcome(exc: BaseException, task: Task[Any]) -> bool:
    return isinstance(exc, CancelledError) if task.cancelled() else exc is task.exception()


def _place_in(thread: int) -> Place | None:
    """Return the innermost line of user code that *thread* is in, inside of the loop that it runs."""
    innermost = frame = sys._current_frames().get(thread)
    try:
        while frame is not None and frame.f_code is not _DRIVE:
            if is_user_code(frame.f_code.co_filename):
                return Place.from_code(frame.f_code, frame.f_lasti)
            frame = frame.f_back
        # A callback written in C, say.
        return None if innermost is None else Place.from_code(innermost.f_code, innermost.f_lasti)
    finally:
        del innermost, frame


_DRIVE = Lifecycle[Any]._drive.__code__
