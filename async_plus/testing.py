"""Help for testing asyncio code: a clock that jumps, a check that nothing is left behind, recorded events.

It is a pytest plugin and needs pytest-asyncio 1.4 or newer. Switch it on in the topmost ``conftest.py``::

    pytest_plugins = ["async_plus.testing"]

A test that asks for the ``virtual_clock`` fixture, or is marked ``virtual_time``, then runs on a loop
whose time stands still while anything can run and otherwise jumps to the next timer. An hour of waiting takes no
time at all, and always the same hour::

    async def test_feed_waits_a_minute_after_the_third_failure(virtual_clock):
        await run_feed_that_fails(times=3)
        assert virtual_clock.elapsed == 70

A project that chooses its loops itself (the hook ``pytest_asyncio_loop_factories``) names `VirtualClockLoop` there.

PYTEST_DONT_REWRITE, because pytest would otherwise warn when a ``conftest.py`` both imports this and switches it on.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import gc
import inspect
import logging
import selectors
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, cast

import pytest
import pytest_asyncio

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from async_plus.events import Event

__all__ = ["Leaks", "VirtualClock", "VirtualClockLoop", "no_leaks", "record_events", "virtual_clock"]

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")

# One day after the epoch: near enough that a float still tells nanoseconds apart, far enough from zero that
# `start + timeout` is exact for every timeout a loop passes to its selector (it caps them at one day).
_START = 86_400.0

# Real seconds: between looks at an executor's threads, and for bytes to cross the loopback interface.
_THREAD_POLL = 0.01
_LOOPBACK = 0.001
# The same on a busy machine, before their absence is called a deadlock.
_LOOPBACK_AT_MOST = 1.0

_failed = pytest.StashKey[bool]()


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
        """Go on to *when*, and take the frozen clocks of the process along. Loops call this, tests rarely should."""
        step = _microseconds(when) - _microseconds(self._now)
        self._now = when
        # Not imported by us: if nobody froze anything, there is nothing to move.
        if freezer := sys.modules.get("freezegun.api"):
            for frozen in freezer.freeze_factories[-1:]:
                frozen.tick(datetime.timedelta(microseconds=step))


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
    that names the tasks and where each is parked.

    .. versionadded:: 1.0
    """

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self._threads_at_work = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.clock.time()

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
            raise deadlock(self._loop)
        clock = self._loop.clock
        clock.jump(clock.time() + timeout)
        return []


def deadlock(loop: asyncio.AbstractEventLoop) -> RuntimeError:
    """Return the error for a virtual *loop* on which nothing can ever happen again."""
    return RuntimeError(f"deadlock on the virtual clock: no timer is set, and every task waits: {_waiting(loop)}")


def _waiting(loop: asyncio.AbstractEventLoop) -> str:
    from async_plus import stacks

    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    return "; ".join(f"{task.get_name()!r} {stacks.parked(task)}" for task in tasks) or "(there is no task at all)"


@pytest_asyncio.fixture
async def virtual_clock() -> AsyncIterator[VirtualClock]:
    """The clock of the virtual loop the test runs on, with ``time`` and ``datetime`` frozen to it.

    They start at 1970-01-02 and move only as the loop's time does. ``await asyncio.sleep(0.001)`` lets everything else
    run as far as it can.

    Raises:
        RuntimeError: The test runs on another loop.

    .. versionadded:: 1.0
    """
    loop = asyncio.get_running_loop()
    clock = getattr(loop, "clock", None)
    if not isinstance(clock, VirtualClock):
        raise RuntimeError(
            f"virtual_clock needs an async test on a VirtualClockLoop, got {type(loop).__name__} "
            "(does your pytest_asyncio_loop_factories return it for this test?)"
        )
    with _frozen(clock):
        yield clock


@contextlib.contextmanager
def _frozen(clock: VirtualClock) -> Generator[None, None, None]:
    # Only here: it is slow to import, and code that never freezes a clock need not have it installed.
    import freezegun
    import freezegun.config

    # pytest's own stop-watch would otherwise report hours of virtual time, or none at all.
    ignored = freezegun.config.settings.default_ignore_list
    if "_pytest.timing" not in ignored:
        freezegun.configure(extend_ignore_list=["_pytest.timing"])
    start = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=_microseconds(clock.time()))
    with freezegun.freeze_time(start):
        yield


@dataclass
class Leaks:
    """What a test has lost so far. A test that loses something on purpose looks at it here and clears it.

    Attributes:
        errors: What asyncio reported at level ERROR, an exception that nobody retrieved for example.
        never_awaited: The warnings about coroutines that were never awaited.

    .. versionadded:: 1.0
    """

    errors: list[logging.LogRecord] = field(default_factory=list[logging.LogRecord])
    never_awaited: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        reported = (f"asyncio reported: {logging.Formatter().format(record)}" for record in self.errors)
        return "\n".join([*reported, *self.never_awaited])


@pytest.fixture
def no_leaks(request: pytest.FixtureRequest) -> Iterator[Leaks]:
    """Fail the test if it leaves a task, loses an error or forgets a coroutine, or stays cancelled.

    Looked at after all other fixtures are gone: tasks of this loop that still run; records of level ERROR on the
    logger ``asyncio`` and coroutines never awaited, once garbage is collected. The count of ``cancelling()`` of
    the test's own task must be as before. A test that failed is not judged a second time.

    .. versionadded:: 1.0
    """
    leaks = Leaks()
    with _watched_for(leaks), pytest.MonkeyPatch.context() as patch:
        if target := _coroutine_test(request.node):
            request.getfixturevalue("_no_tasks_left")
            patch.setattr(*target, _same_cancelling(getattr(*target)))
        yield leaks
        # Errors and coroutines are missed only when the object that holds them dies, perhaps in a later test.
        gc.collect()
    if (lost := str(leaks)) and not request.node.stash.get(_failed, False):
        pytest.fail(lost, pytrace=False)


@pytest_asyncio.fixture
async def _no_tasks_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left and not request.node.stash.get(_failed, False):
        from async_plus import stacks

        tasks = "; ".join(sorted(f"{task.get_name()!r} {stacks.parked(task)}" for task in left))
        pytest.fail(f"the test left tasks running: {tasks}", pytrace=False)


@contextlib.contextmanager
def _watched_for(leaks: Leaks) -> Generator[None, None, None]:
    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            leaks.errors.append(record)

    def show(message: Warning | str, category: type[Warning], *rest: Any, **options: Any) -> None:
        if str(message).startswith("coroutine ") and "was never awaited" in str(message):
            leaks.never_awaited.append(str(message))
        else:
            shown(message, category, *rest, **options)

    collector, logger = Collector(logging.ERROR), logging.getLogger("asyncio")
    logger.addHandler(collector)
    try:
        with warnings.catch_warnings():
            # Raised as an error inside a finalizer it would be printed and forgotten.
            warnings.filterwarnings("always", "coroutine .* was never awaited", RuntimeWarning)
            shown, warnings.showwarning = warnings.showwarning, show
            yield
    finally:
        logger.removeHandler(collector)


def _coroutine_test(item: Any) -> tuple[object, str] | None:
    """Find where *item* keeps its coroutine function, as pytest-asyncio does: hypothesis hides it."""
    handle = getattr(item.obj, "hypothesis", None)
    target = (item, "obj") if handle is None else (handle, "inner_test")
    return target if inspect.iscoroutinefunction(getattr(*target)) else None


def _same_cancelling(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def checked(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        task = cast("asyncio.Task[None]", asyncio.current_task())
        before = task.cancelling()
        await test(*args, **kwargs)
        if (after := task.cancelling()) != before:
            pytest.fail(f"the test's task was left with cancelling() == {after}, it was {before}", pytrace=False)

    return checked


@contextlib.contextmanager
def record_events() -> Generator[list[Event], None, None]:
    """Record what async_plus notices inside the block, in order.

        with record_events() as events:
            await feed()
        assert [type(event) for event in events] == [AttemptStarted, AttemptFailed, AttemptStarted]

    Logging and other subscribers go on undisturbed.

    .. versionadded:: 1.0
    """
    from async_plus.events import subscribe

    events: list[Event] = []
    unsubscribe = subscribe(events.append)
    try:
        yield events
    finally:
        unsubscribe()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "virtual_time: run the test on a loop whose time jumps, with all clocks frozen at 1970-01-02"
    )


# Last: a project's own choice of loops goes first. Optional: without pytest-asyncio nobody knows the hook.
@pytest.hookimpl(optionalhook=True, trylast=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Choose the virtual loop for the tests that want it."""
    return {"virtual": VirtualClockLoop} if wants_virtual_time(item) else {"default": asyncio.new_event_loop}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Freeze the clocks for a test that is marked, too."""
    names: list[str] = getattr(item, "fixturenames", [])
    if item.get_closest_marker("virtual_time") and "virtual_clock" not in names:
        names.insert(0, "virtual_clock")


def wants_virtual_time(item: pytest.Item) -> bool:
    """Whether *item* is marked ``virtual_time`` or asks for the `virtual_clock` fixture."""
    return bool(item.get_closest_marker("virtual_time")) or "virtual_clock" in getattr(item, "fixturenames", [])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember a failure, so that `no_leaks` does not report its debris as well."""
    report = yield
    item.stash[_failed] = item.stash.get(_failed, False) or report.failed
    return report
