"""A loop whose time jumps, and the clocks of the process that go with it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime
import math
import selectors
import sys
from collections.abc import Awaitable, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, cast

import pytest

from async_plus._checks import seconds
from async_plus.testing.items import is_of_anyio, is_of_unittest
from async_plus.testing.loops import loop_of
from async_plus.testing.timeouts import keep_snapshot

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["VirtualClock", "VirtualClockLoop", "deadlock", "virtual_clock"]

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")

# One day after the epoch: near enough that a float still tells nanoseconds apart, far enough from zero that
# `start + timeout` is exact for every timeout a loop passes to its selector (it caps them at one day).
_START = 86_400.0
_EPOCH = datetime.datetime(1970, 1, 1)

# Virtual seconds that the tasks of a run have to end in after a deadlock. With a timer set, there is no second one.
_TO_END = 60.0

# Real seconds: between looks at an executor's threads, and for bytes to cross the loopback interface.
_THREAD_POLL = 0.01
_LOOPBACK = 0.001
# The same on a busy machine, before their absence is called a deadlock.
_LOOPBACK_AT_MOST = 1.0


class VirtualClock:
    """The time of one virtual loop.

    It equals ``time.monotonic()`` while the clocks of the process are frozen by the `virtual_clock` fixture.

    .. versionadded:: 1.0
    """

    def __init__(self) -> None:
        self._now = _START

    def __repr__(self) -> str:
        return f"<VirtualClock elapsed={self.elapsed:g}>"

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the loop was made, to the microsecond."""
        return round(self._now - _START, 6)

    def time(self) -> float:
        """Return the time in seconds, as ``loop.time()`` does."""
        return self._now

    def jump(self, when: float) -> None:
        """Go on to *when*, and take the frozen clocks of the process along. Loops call this, tests rarely should.

        Raises:
            TypeError: *when* is no number.
            ValueError: It is before `time`, or infinite.
        """
        when = seconds("when", when)
        if when < self._now:
            fix = "to go on by some seconds, add them to time()"
            raise ValueError(f"when must not be before the clock's own time, {self._now:g}, got {when:g} ({fix})")
        step = _microseconds(when) - _microseconds(self._now)
        self._now = when
        # Not imported by us: if nobody froze anything, there is nothing to move.
        if freezer := sys.modules.get("freezegun.api"):
            self._take_along(freezer.freeze_factories, step)

    def _take_along(self, frozen: list[Any], step: int) -> None:
        held_by, held = _held_by[-1] if _held_by else (self, None)
        # Another loop may run meanwhile, a fixture's for example. The clocks are not its own.
        if held_by is not self:
            return
        if held is not None:
            # However deep the test has frozen its own date on top of it:
            #
            #     with freezegun.freeze_time("2030-01-01"):
            #         await asyncio.sleep(100)
            #     time.monotonic()   # is what the loop says, here too
            held.move_to(_date(self._now))
        for innermost in frozen[-1:]:
            if innermost is not held:
                innermost.tick(datetime.timedelta(microseconds=step))


# The virtual clocks to which those of the process are frozen, each with what freezegun calls its factory. Nearly always
# there is one at most: more than one if a test runs a whole test suite in its own process.
_held_by: list[tuple[VirtualClock, Any]] = []


def _date(when: float) -> datetime.datetime:
    return _EPOCH + datetime.timedelta(microseconds=_microseconds(when))


def _microseconds(when: float) -> int:
    """Round up: frozen clocks know microseconds only, and must never be behind the loop.

    Behind, code that compares the two would spin for ever::

        loop.call_at(deadline, check)   # due now, says the loop
        time.monotonic() < deadline     # not yet, says the frozen clock: call_at() again
    """
    micros = round(when * 1_000_000)
    seconds, rest = divmod(micros, 1_000_000)
    return micros if seconds + rest / 1e6 >= when else micros + 1


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer as soon as nothing can run.

    A call in an executor (``asyncio.to_thread``, name look-up) is waited for in real time, during which virtual time
    stands still. The same goes for bytes on the loopback interface. Other programs, other hosts and threads
    of your own are not waited for: the loop cannot know that something is to come from them.

    When every task waits and no timer is set, nothing could ever happen again: the loop then raises a RuntimeError
    that names the tasks and where each is parked. It comes out of `run_until_complete` when all tasks that this run has
    started are cancelled and have ended, so that none of them lives on where tests share a loop.

    .. versionadded:: 1.0
    """

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self._deadlock: RuntimeError | None = None
        self._threads_at_work = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.clock.time()

    @property
    def _clock_resolution(self) -> float:
        # To asyncio a timer is due when it lies before the time plus this. After some months the nanosecond that it is
        # by default is lost in rounding: a timer at the very time would never be due, and no time passes by itself.
        return max(self._least_resolution, math.ulp(self.time()))

    @_clock_resolution.setter
    def _clock_resolution(self, seconds: float) -> None:
        self._least_resolution = seconds

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Args], object],
        *args: *_Args,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run *callback* when the time is *when*. Infinity never comes, so it is no time to jump to."""
        if when == math.inf:
            return asyncio.TimerHandle(when, callback, args, self, context)
        return super().call_at(when, callback, *args, context=context)

    def run_until_complete(self, future: Generator[Any, None, _T] | Awaitable[_T]) -> _T:
        """Run the loop until *future* is done, and end all that this run has started if nothing can happen any more."""
        before = asyncio.all_tasks(self)
        try:
            # Before Python 3.12 its type allows for generators as well.
            return super().run_until_complete(cast("Awaitable[_T]", future))
        except RuntimeError as exc:
            if exc is self._deadlock:
                # The task that was to be run may be older: asyncio.Runner makes it before.
                self._end({task for task in asyncio.all_tasks(self) if task is future or task not in before})
            raise
        finally:
            self._deadlock = None

    def _end(self, tasks: set[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            super().run_until_complete(asyncio.wait(tasks, timeout=_TO_END))

    def wake_up_soon(self) -> bool:
        """Whether a thread at work will wake this loop, so that time must wait for it."""
        return self._threads_at_work > 0

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Args], _T], *args: *_Args
    ) -> asyncio.Future[_T]:
        """Run *func* in a thread, with virtual time standing still until it has returned."""
        future = super().run_in_executor(executor, func, *args)
        self._threads_at_work += 1
        future.add_done_callback(self._thread_returned)
        return future

    async def shutdown_default_executor(self, *args: Any, **kwargs: Any) -> None:
        """Wait for the threads in real time. Its time limit would otherwise be jumped to at once."""
        self._threads_at_work += 1
        try:
            await super().shutdown_default_executor(*args, **kwargs)
        finally:
            self._threads_at_work -= 1

    def _thread_returned(self, _: asyncio.Future[Any]) -> None:
        self._threads_at_work -= 1


class _JumpingSelector(selectors.DefaultSelector):
    """Where a loop would sleep until its next timer, this one moves the clock there."""

    def __init__(self, loop: VirtualClockLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if self._loop.wake_up_soon():
            return super().select(_THREAD_POLL)
        # One file is the loop's own wake-up pipe; with more, bytes may be on their way through the kernel.
        patience = _LOOPBACK_AT_MOST if timeout is None else _LOOPBACK
        if len(self.get_map()) > 1 and (events := super().select(patience)):
            return events
        if timeout is None:
            self._loop._deadlock = deadlock(self._loop)
            raise self._loop._deadlock
        clock = self._loop.clock
        clock.jump(clock.time() + timeout)
        return []


def deadlock(loop: asyncio.AbstractEventLoop) -> RuntimeError:
    """Return the error for a virtual *loop* on which nothing can ever happen again."""
    exc = RuntimeError(f"deadlock on the virtual clock: no timer is set, and every task waits: {_waiting(loop)}")
    keep_snapshot(exc, loop)
    return exc


def _waiting(loop: asyncio.AbstractEventLoop) -> str:
    from async_plus import stacks

    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    return "; ".join(f"{task.get_name()!r} {stacks.parked(task)}" for task in tasks) or "(there is no task at all)"


@pytest.fixture
def virtual_clock(request: pytest.FixtureRequest) -> Iterator[VirtualClock]:
    """The clock of the virtual loop the test runs on, with ``time`` and ``datetime`` frozen to it.

    They start at 1970-01-02 and move only as the loop's time does. (A loop that several tests share, by
    pytest-asyncio's ``loop_scope``, goes on from one to the next.) ``await asyncio.sleep(0.001)`` lets everything else
    run as far as it can.

    Raises:
        RuntimeError: The test runs on another loop, or is marked ``anyio``, or belongs to a `unittest.TestCase`.

    .. versionadded:: 1.0
    """
    needs = "virtual_clock needs a test that pytest-asyncio runs"
    if is_of_anyio(request):
        raise RuntimeError(f"{needs}: mark this one asyncio, not anyio")
    if is_of_unittest(request.node):
        raise RuntimeError(f"{needs}: make this one a function, or a method of a class without TestCase")
    loop = loop_of(request)
    clock = getattr(loop, "clock", None)
    if not isinstance(clock, VirtualClock):
        fix = "does your pytest_asyncio_loop_factories return it for this test?"
        if request.node.get_closest_marker("virtual_time") and not _is_marked_as_a_whole(request.node):
            fix = "the mark of a single parameter comes too late for that: mark the test"
        raise RuntimeError(
            f"virtual_clock needs an async test on a VirtualClockLoop, got {type(loop).__name__} ({fix})"
        )
    with _frozen(clock):
        yield clock


def _is_marked_as_a_whole(item: Any) -> bool:
    own = getattr(item, "callspec", None)
    return "virtual_time" not in {mark.name for mark in getattr(own, "marks", ())}


@contextlib.contextmanager
def _frozen(clock: VirtualClock) -> Generator[None, None, None]:
    # Only here: it is slow to import, and code that never freezes a clock need not have it installed.
    import freezegun
    import freezegun.config

    # pytest's own stop-watch would otherwise report hours of virtual time, or none at all.
    ignored = freezegun.config.settings.default_ignore_list
    if "_pytest.timing" not in ignored:
        freezegun.configure(extend_ignore_list=["_pytest.timing"])
    with freezegun.freeze_time(_date(clock.time())) as frozen:
        _held_by.append((clock, frozen))
        try:
            yield
        finally:
            _held_by.pop()
