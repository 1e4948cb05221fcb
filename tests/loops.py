"""The event loops every test runs on, each with a twin on the virtual clock."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import math
import sys
import warnings
from collections.abc import Callable

import pytest

from async_plus.testing import VirtualClock, VirtualClockLoop
from async_plus.testing.clock import deadlock

try:
    import uvloop
except ImportError:  # it does not exist on Windows
    uvloop = None


class DebugMixin:
    """Debug mode that stays on, whatever pytest-asyncio's own setting says."""

    # Debug mode is slow, so that a busy machine would log callbacks as slow ones. The loop itself sets 0.1 s.
    slow_callback_duration = property(lambda self: math.inf, lambda self, seconds: None)

    def set_debug(self, enabled: bool) -> None:
        super().set_debug(True)


class DebugLoop(DebugMixin, asyncio.SelectorEventLoop):
    pass


class VirtualDebugLoop(DebugMixin, VirtualClockLoop):
    pass


def eager(factory: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return a factory of the same loop with eager tasks."""

    def eager_factory():
        loop = factory()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    return eager_factory


if uvloop is not None:

    class Uvloop(uvloop.Loop):
        """uvloop whose close() never hangs.

        It closes what was left open and warns of it. Raised as an error, the warning keeps it from closing that one,
        and then it waits for it for ever.
        """

        def close(self):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ResourceWarning)
                super().close()
            for warning in caught:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)

    class VirtualUvloop(Uvloop):
        """uvloop on virtual time.

        Its clock is out of reach, but not its timers: all go through `call_at`, and tasks schedule their steps
        through the attribute `call_soon`. A callback that reschedules itself counts those calls; a few rounds of the
        loop without any mean that nothing can run, and the next timer is due.
        """

        # Rounds without a step; each round also looks at the sockets once.
        IDLE_ROUNDS = 3
        # Real seconds between looks at an executor's threads, and for bytes to cross the loopback interface.
        PAUSE = 0.002
        # As many of them as bytes get on a busy machine before their absence is called a deadlock.
        LAST_PAUSES = 500

        def __init__(self):
            self.clock = VirtualClock()
            self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
            self._serial = itertools.count()
            self._steps = self._steps_seen = self._idle = self._threads_at_work = 0
            self._pauses = 0
            self._tick_is_scheduled = self._uses_sockets = False
            self._failure: RuntimeError | None = None

        def time(self):
            return self.clock.time()

        def call_soon(self, callback, *args, context=None):
            self._steps += 1
            return super().call_soon(callback, *args, context=context)

        def call_later(self, delay, callback, *args, context=None):
            return self.call_at(self.time() + delay, callback, *args, context=context)

        def call_at(self, when, callback, *args, context=None):
            timer = asyncio.TimerHandle(when, callback, args, self, context)
            if when != math.inf:  # it never comes
                heapq.heappush(self._timers, (when, next(self._serial), timer))
            return timer

        def _timer_handle_cancelled(self, timer):
            """Called by timer.cancel(). It is dropped when its turn comes."""

        # Both look names up in a thread of libuv's.
        async def create_connection(self, *args, **kwargs):
            self._uses_sockets = True
            with self._thread_at_work():
                return await super().create_connection(*args, **kwargs)

        async def create_server(self, *args, **kwargs):
            self._uses_sockets = True
            with self._thread_at_work():
                return await super().create_server(*args, **kwargs)

        def run_in_executor(self, executor, func, *args):
            future = super().run_in_executor(executor, func, *args)
            self._threads_at_work += 1
            future.add_done_callback(self._thread_returned)
            return future

        async def shutdown_default_executor(self, *args, **kwargs):
            with self._thread_at_work():
                await super().shutdown_default_executor(*args, **kwargs)

        @contextlib.contextmanager
        def _thread_at_work(self):
            self._threads_at_work += 1
            try:
                yield
            finally:
                self._threads_at_work -= 1

        def _thread_returned(self, _):
            self._threads_at_work -= 1

        def run_forever(self):
            self._idle = 0
            # The last run may have stopped with a tick still to come.
            if not self._tick_is_scheduled:
                self._schedule_tick()
            super().run_forever()
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure

        def _schedule_tick(self, *, real_pause=0.0):
            self._tick_is_scheduled = True
            if real_pause:
                super().call_later(real_pause, self._tick)
            else:
                super().call_soon(self._tick)

        def _tick(self):
            self._tick_is_scheduled = False
            if self._steps != self._steps_seen:
                self._idle = self._pauses = 0
            self._idle += 1
            if self._idle > self.IDLE_ROUNDS:
                while self._timers and self._timers[0][-1].cancelled():
                    heapq.heappop(self._timers)
                pauses = 1 if self._timers else self.LAST_PAUSES
                if self._threads_at_work or (self._uses_sockets and self._pauses < pauses):
                    self._pauses += 1
                    self._schedule_tick(real_pause=self.PAUSE)
                    return
                if not self._timers:
                    self._failure = deadlock(self)
                    self.stop()
                    return
                self.clock.jump(max(self.time(), self._timers[0][0]))
            self._steps_seen = self._steps
            while self._timers and self._timers[0][0] <= self.time():
                self.call_soon(self._run_timer, heapq.heappop(self._timers)[-1])
            self._schedule_tick()

        def _run_timer(self, timer):
            if not timer.cancelled():
                timer._run()


def factories(*, virtual: bool) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return a factory of each loop that this Python and this machine have."""
    default = VirtualClockLoop if virtual else asyncio.new_event_loop
    found = {"default": default, "debug": VirtualDebugLoop if virtual else DebugLoop}
    if sys.version_info >= (3, 12):
        found["eager"] = eager(default)
    if uvloop is not None:
        found["uvloop"] = VirtualUvloop if virtual else Uvloop
    return found


def _on_each(found):
    return pytest.mark.parametrize("loop_factory", found.values(), ids=found)


# For tests that run a loop themselves. A coroutine function runs on each loop without being told to.
each_loop = _on_each(factories(virtual=False))
each_virtual_loop = _on_each(factories(virtual=True))
