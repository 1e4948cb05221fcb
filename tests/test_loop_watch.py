"""`watch_loop`: what blocks the event loop is found while it does, by a thread."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import subprocess
import sys
import threading
import time
import types
import warnings
import weakref

import pytest
from loops import each_loop
from runs import each_loop_of_programs
from tools import Lookalike, forever, here, messages, refused, start, turns

from async_plus import BlockOver, LoopBlocked, Place, subscribe, watch_loop
from async_plus.diagnostics import loop_watch
from async_plus.diagnostics.loop_watch import watches_of
from async_plus.engine.owned import task_name
from async_plus.testing import record_events

SELDOM = 1000.0


class Waiter:
    """Blocks a loop until a subscriber has heard of that in another thread.

    On a busy machine the loop may be late by itself, and be reported for that, too: only what `is_meant` counts.
    """

    def __init__(self):
        self.blocked, self.over = [], []
        # What a thread can wait for in one call of C.
        self.locked = threading.Lock()
        self.locked.acquire()

    def is_meant(self, event):
        return event.blocked_at is not None and event.blocked_at.function in ("spin", "sleep", "wait_in_c")

    def __call__(self, event):
        if type(event) is LoopBlocked and self.is_meant(event):
            self.blocked.append(event)
            if self.locked.locked():
                self.locked.release()
        elif type(event) is BlockOver and self.blocked:
            self.over.append(event)

    async def until_over(self):
        while not self.over:
            await asyncio.sleep(0.001)

    def spin(self):
        while not self.blocked:
            pass

    def sleep(self):
        while not self.blocked:
            time.sleep(0.01)

    def wait_in_c(self):
        self.locked.acquire()


@pytest.fixture
def waiter():
    waiter = Waiter()
    unsubscribe = subscribe(waiter)
    yield waiter
    unsubscribe()


def lines_of(function):
    code = function.__code__
    return {Place.from_code(code, start) for start, _, line in code.co_lines() if line is not None}


class TestRealBlocks:
    @pytest.mark.parametrize("how", ["spin", "sleep", "wait_in_c"])
    async def test_the_blocking_line_of_a_task_is_named_while_it_blocks(self, waiter, how):
        """In Python code and in C calls, found in another thread, on the loop as it is; and when it is over, in all."""
        block = getattr(Waiter, how)

        async def feed():
            await turns()  # an eager task has its name only after its first step
            block(waiter)
            await waiter.until_over()

        with watch_loop(0.02):
            await asyncio.create_task(feed(), name="feed")

        blocked = waiter.blocked
        assert {event.task for event in blocked} == {"feed"}
        assert {event.blocked_at for event in blocked} <= lines_of(block)
        assert all(event.stack[-1] == event.blocked_at for event in blocked)
        assert all(event.stack[-2] in lines_of(feed) for event in blocked)
        lasted = [event.blocked_for for event in blocked]
        assert lasted[0] >= 0.02
        assert all(later >= 2 * earlier for earlier, later in itertools.pairwise(lasted))
        assert waiter.over[0].seen
        assert waiter.over[0].blocked_for >= lasted[-1]

    async def test_the_blocking_line_of_a_callback_is_named(self, waiter):
        """It belongs to no task."""
        with watch_loop(0.02):
            await turns()
            asyncio.get_running_loop().call_soon(waiter.sleep)
            await waiter.until_over()

        assert {event.task for event in waiter.blocked} == {None}
        assert {event.blocked_at for event in waiter.blocked} <= lines_of(Waiter.sleep)
        assert all(set(event.stack) <= lines_of(Waiter.sleep) for event in waiter.blocked)

    @pytest.mark.asyncio(loop_factories=["default", "uvloop"])
    async def test_a_callback_without_a_line_of_its_own_is_told_all_the_same(self, waiter):
        """Of a C function, asyncio shows the line that calls it, and uvloop none at all."""
        is_asyncios = isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
        place = (asyncio.events.__file__, "_run") if is_asyncios else None

        def is_meant(event):
            at = event.blocked_at
            return event.task is None and (at and (at.filename, at.function)) == place

        waiter.is_meant = is_meant
        with watch_loop(0.02):
            await asyncio.sleep(0.02)
            asyncio.get_running_loop().call_soon(waiter.locked.acquire)
            await waiter.until_over()

        assert waiter.blocked

    async def test_the_record_points_to_the_blocking_line(self, waiter, caplog):
        """A log viewer leads there."""
        with watch_loop(0.02):
            await turns()
            waiter.sleep()
            await waiter.until_over()

        records = [record for record in caplog.records if record.funcName == "sleep"]
        assert {Place(record.pathname, record.lineno, "sleep") for record in records} <= lines_of(Waiter.sleep)
        assert {record.threadName for record in records} == {"async_plus loop watch"}


class Clock:
    """The time, as the watch sees it."""

    now = SELDOM

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """Has watches made without their thread: the test looks, whenever it says so."""
    clock = Clock()

    class Thread:
        def __init__(self, **kwargs):
            assert kwargs["daemon"]

        def start(self):
            pass

    monkeypatch.setattr(loop_watch, "time", clock)
    monkeypatch.setattr(loop_watch, "threading", types.SimpleNamespace(Thread=Thread, get_ident=threading.get_ident))
    return clock


def look(watch, clock, now, *, planned=None):
    """Let it be *now*, and the thread look, as *planned*; return after how many seconds it will do so again."""
    clock.now = SELDOM + now
    watch._next_look = SELDOM + (now if planned is None else planned)
    pause = watch._turn(None if watch._orders.empty() else watch._orders.get())
    return None if pause is None else round(pause, 6)


async def beat(watch, clock, now):
    """Let it be *now*, and the loop come to its beat, which is due by then."""
    clock.now = SELDOM + now
    watch._timer.cancel()
    watch._beat()


class TestLooks:
    """What the thread does, at times that the test sets."""

    async def test_it_looks_when_a_beat_would_be_too_late_and_no_sooner(self, clock):
        """The loop beats four times a second, so that the thread wakes up twice a second at most."""
        with record_events() as events, watch_loop(0.5) as watch:
            await beat(watch, clock, 0)
            assert look(watch, clock, 0.5) == 0.25
            await beat(watch, clock, 0.5)
            assert look(watch, clock, 0.75) == 0.5
            await beat(watch, clock, 0.75)
            assert look(watch, clock, 1.25) == 0.25

        assert events == []

    async def test_a_block_is_reported_at_doubling_gaps_and_at_its_end(self, clock, caplog):
        """As long as it lasts. The end tells how long it was in all."""
        with watch_loop(0.5) as watch:
            await beat(watch, clock, 0)
            assert look(watch, clock, 0.75) == 0.5
            assert look(watch, clock, 1.25) == 1
            assert look(watch, clock, 2.25) == 1
            assert look(watch, clock, 3.25) == 1
            assert look(watch, clock, 4.25) == 1
            await beat(watch, clock, 5.25)
            assert look(watch, clock, 5.25) == 0.75

        name = task_name(asyncio.current_task())
        where = f"in task {name!r} at {Place(*here())}".rpartition(":")[0]
        told = [(level, text.rpartition(":")[0]) for level, text in messages(caplog)]
        assert told == [
            ("WARNING", f"event loop blocked 0.50 s {where}"),
            ("WARNING", f"event loop blocked 1.00 s {where}"),
            ("WARNING", f"event loop blocked 2.00 s {where}"),
            ("WARNING", f"event loop blocked 4.00 s {where}"),
            ("WARNING", f"event loop was blocked 5.00 s, last seen {where}"),
        ]

    async def test_the_next_block_is_reported_from_the_start_again(self, clock):
        """Each by itself."""
        with record_events() as events, watch_loop(0.5) as watch:
            for second in (0, 10):
                await beat(watch, clock, second)
                look(watch, clock, second + 0.75)
                look(watch, clock, second + 1.25)
            await beat(watch, clock, 20)

        assert [round(event.blocked_for, 6) for event in events] == [0.5, 1, 9.75, 0.5, 1]

    async def test_a_low_threshold_has_more_beats_and_a_high_one_more_looks(self, clock):
        """A short block is not missed between two beats; and the end of the loop is noticed within a second."""
        with watch_loop(0.1) as watch:
            await beat(watch, clock, 0)
            assert look(watch, clock, 0) == 0.15
        with watch_loop(3600) as watch:
            await beat(watch, clock, 0)
            assert look(watch, clock, 0) == 1

    async def test_a_look_that_was_held_up_itself_is_repeated(self, clock):
        """The process was stopped, and goes on (SIGCONT): the loop is about to beat, and must not be blamed."""
        with record_events() as events, watch_loop(0.5) as watch:
            await beat(watch, clock, 0)
            assert look(watch, clock, 60, planned=0.75) == 0.25
            await beat(watch, clock, 60)
            assert look(watch, clock, 60.25) == 0.5

        assert events == [BlockOver(blocked_for=59.75, seen=False, task=None, blocked_at=None)]

    async def test_a_block_goes_by_no_excuse_twice(self, clock):
        """On a machine so busy that each look is late, the second one tells."""
        with record_events() as events, watch_loop(0.5) as watch:
            await beat(watch, clock, 0)
            assert look(watch, clock, 1, planned=0.75) == 0.25
            assert look(watch, clock, 2, planned=1.25) == 1

        assert [event.blocked_for for event in events] == [1.75]

    async def test_a_beat_that_comes_just_when_the_thread_looks_is_no_news(self, clock):
        """What is hardly longer than the threshold and was not seen tells nothing."""
        with record_events() as events, watch_loop(0.5) as watch:
            await beat(watch, clock, 0)
            await beat(watch, clock, 0.8)
            look(watch, clock, 0.8)

        assert events == []

    async def test_what_has_gone_on_by_the_time_it_is_found_is_not_reported(self, clock, monkeypatch):
        """It would be something else that is seen."""
        with record_events() as events, watch_loop(0.5) as watch:
            await beat(watch, clock, 0)

            def beaten(*args):
                watch._due += 1
                return None, ()

            monkeypatch.setattr(loop_watch, "_running", beaten)
            look(watch, clock, 0.75)

        assert events == []

    async def test_a_block_that_is_found_in_the_very_moment_of_the_beat_ends_too(self, clock):
        """The beat has read its clock, by which it is not quite late; the thread reads it a moment later."""
        with record_events() as events, watch_loop(0.5) as watch:
            await beat(watch, clock, 0)

            def read():
                del clock.monotonic
                look(watch, clock, 0.75)
                return SELDOM + 0.74

            clock.monotonic = read
            await beat(watch, clock, 0.74)
            look(watch, clock, 0.76)

        assert [(type(event), round(event.blocked_for, 6)) for event in events] == [
            (LoopBlocked, 0.5),
            (BlockOver, 0.49),
        ]

    async def test_a_watch_that_is_stopped_during_a_look_reports_no_more(self, clock, monkeypatch):
        """Whoever has stopped it is done with it."""
        with record_events() as events, watch_loop(0.5) as watch:
            await beat(watch, clock, 0)
            monkeypatch.setattr(loop_watch, "_running", lambda *args: (watch.stop(), ()))
            look(watch, clock, 0.75)

        assert events == []

    @each_loop
    def test_a_loop_that_nobody_runs_is_not_blocked(self, clock, loop_factory):
        """Between two runs its beats stand still, and the time does not count when it goes on."""

        async def begin():
            watch = watch_loop(0.5)
            await turns()
            return watch

        async def go_on(watch):
            await beat(watch, clock, 100)
            assert watch.lag == 0.25
            look(watch, clock, 100)
            watch.stop()

        with record_events() as events, asyncio.Runner(loop_factory=loop_factory) as runner:
            watch = runner.run(begin())
            assert look(watch, clock, 50) == 0.5
            assert look(watch, clock, 99.75) == 0.5
            assert watch.lag == 0
            runner.run(go_on(watch))

        assert events == []

    async def test_the_lag_is_that_of_the_last_beat_or_what_it_has_come_to_by_now(self, clock):
        """So that a metric shows a block while it lasts."""
        with watch_loop(0.5) as watch:
            await beat(watch, clock, 0)
            assert (watch.lag, watch.overdue) == (0, 0)
            clock.now += 0.5
            assert (watch.lag, watch.overdue) == (0.25, 0.25)
            await beat(watch, clock, 2.25)
            assert (watch.lag, watch.overdue) == (2, 0)
            clock.now += 1
            assert (watch.lag, watch.overdue) == (2, 0.75)
            assert repr(watch) == "<LoopWatch threshold=0.5 lag=2.000>"
            await beat(watch, clock, 2.5)
            assert watch.lag == 0
        clock.now += 1
        assert watch.lag == 0
        assert repr(watch) == "<LoopWatch threshold=0.5 stopped>"


class TestWhoIsRunning:
    """The task and the stack are read while the loop runs, and must belong together."""

    async def look_at(self, task, monkeypatch):
        monkeypatch.setattr(asyncio, "current_task", lambda loop: task)
        return loop_watch._running(asyncio.get_running_loop(), threading.get_ident(), 0)[0]

    async def test_a_task_that_is_not_on_the_stack_is_not_named(self, monkeypatch):
        """It has gone on to another one in that moment."""
        task = await start(forever(), "other")
        assert await self.look_at(task, monkeypatch) is None
        task.cancel()
        await asyncio.wait([task])
        assert await self.look_at(task, monkeypatch) is None

    async def test_a_task_of_compiled_code_is_named(self, monkeypatch):
        """It is on no stack of Python's, so it is taken at its word."""
        task = await start(Lookalike(forever()), "compiled")
        assert await self.look_at(task, monkeypatch) == "compiled"
        task.cancel()
        await asyncio.wait([task])

    async def test_a_deep_stack_is_cut(self):
        """To the lines next to the blocking one."""

        def deeper(levels):
            if levels:
                return deeper(levels - 1)
            return loop_watch._running(asyncio.get_running_loop(), threading.get_ident(), 0)[1]

        stack = deeper(100)
        assert len(stack) == 20
        assert {place.function for place in stack} == {"deeper"}


class TestEnd:
    async def test_a_stopped_watch_beats_and_looks_no_more(self):
        """Its thread ends, and nothing is left in the loop. Stopping twice does nothing."""
        loop = asyncio.get_running_loop()
        watch = watch_loop(0.02)
        await turns()
        assert watches_of(loop) == (watch,)
        watch.stop()
        watch.stop()
        await asyncio.to_thread(watch._thread.join)
        assert watches_of(loop) == ()
        assert watch._timer.cancelled()

    async def test_it_may_be_stopped_in_another_thread(self):
        """The timer is cancelled where it belongs."""
        watch = watch_loop(0.02)
        await asyncio.to_thread(watch.stop)
        await asyncio.to_thread(watch._thread.join)
        await turns()
        assert watch._timer.cancelled()

    async def test_it_may_be_stopped_within_its_own_report(self, waiter):
        """By whoever has seen enough: nothing more is reported, and it does not beat again."""
        watch = watch_loop(0.02)
        await turns()
        unsubscribe = subscribe(lambda event: waiter.blocked and watch.stop())
        with record_events() as events:
            waiter.sleep()
            await asyncio.to_thread(watch._thread.join)
        unsubscribe()
        assert events[-1] is waiter.blocked[-1]

    async def test_a_beat_that_comes_after_the_stop_is_the_last_one(self, clock):
        """It was on its way already."""
        watch = watch_loop(0.5)
        watch.stop()
        timer = watch._timer
        watch._beat()
        assert watch._timer is timer
        assert look(watch, clock, 60) is None

    @each_loop
    def test_it_ends_with_its_loop(self, loop_factory):
        """Its thread does not outlive the loop by more than a second. It may be stopped afterwards."""

        async def main():
            return watch_loop(0.02)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            watch = runner.run(main())
        watch._thread.join()
        assert watch.lag >= 0
        watch.stop()

    def test_it_keeps_no_loop_alive(self):
        """One that nobody closed is collected all the same, and the thread ends. (uvloop's are never collected.)"""

        async def main():
            return watch_loop(0.02)

        loop = asyncio.new_event_loop()
        watch = loop.run_until_complete(main())
        first = watch._next_look
        while watch._next_look == first:
            pass  # until the thread has looked once
        thread, gone = watch._thread, weakref.ref(loop)
        del watch
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it is not closed
            del loop
            while gone() is not None:
                # The thread holds it for the moment of each look.
                gc.collect()
        thread.join()

    def test_a_handle_that_has_lost_its_loop_can_be_stopped(self, clock):
        """Nothing is left to be done."""

        async def main():
            return watch_loop(0.02)

        loop = asyncio.new_event_loop()
        watch = loop.run_until_complete(main())
        loop.close()
        watch._timer = None
        gone = weakref.ref(loop)
        del loop
        gc.collect()
        assert gone() is None
        assert look(watch, clock, 60) is None
        assert watch.lag == 0
        watch.stop()

    async def test_a_watch_whose_beat_outlives_the_loop_sets_no_timer(self, clock):
        """The last beat finds no loop any more."""
        watch = watch_loop(0.5)
        timer = watch._timer
        watch._loop = lambda: None
        watch._beat()
        assert watch._timer is timer
        timer.cancel()


FORKS = """
import asyncio, logging, os, threading, time, warnings
from async_plus import BlockOver, LoopBlocked, subscribe, watch_loop
logging.disable()
warnings.simplefilter("ignore", DeprecationWarning)  # of forks in the presence of threads

process = os.getpid()
heard = threading.Event()

def hear(event):
    os.write(1, f"{{type(event).__name__}} in the {{'parent' if os.getpid() == process else 'child'}}\\n".encode())
    if type(event) is LoopBlocked:
        heard.set()

def block():
    heard.clear()
    while not heard.wait(0.01):
        pass

async def inner():
    watch_loop(0.02)
    await asyncio.sleep(0)
    block()

async def main():
    subscribe(hear)
    watch = watch_loop(0.02)
    await asyncio.sleep(0.05)
    child = os.fork()
    if not child:
        time.sleep(0.2)       # nobody watches this loop here
        watch.lag
        watch.stop()
        os.write(1, b"child has blocked\\n")
        with asyncio.Runner({factory}) as runner:
            runner.run(inner())
        os._exit(0)
    await asyncio.to_thread(os.waitpid, child, 0)
    os.write(1, b"parent blocks\\n")
    block()

with asyncio.Runner({factory}) as runner:
    runner.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks on this system")
@each_loop_of_programs
def test_after_a_fork_the_parent_is_watched_and_the_child_is_not_held_up(factory):
    """The child has no thread of ours: it reports nothing, blocks on nothing, and may watch a loop of its own."""
    program = FORKS.format(factory=factory)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)

    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    # A busy machine may have blocked the child's loop before it did that itself.
    [first, *others] = [line for line in lines if "child" in line]
    assert first == "child has blocked"
    assert "LoopBlocked in the child" in others
    assert "LoopBlocked in the parent" in lines[lines.index("parent blocks") :]


class TestArguments:
    def test_it_needs_a_running_loop(self):
        """The loop that is to be watched."""
        fix = "call it in a coroutine, or use run(watch_loop=0.5)"
        with refused(RuntimeError, f"watch_loop() needs a running event loop: {fix}"):
            watch_loop()

    @pytest.mark.asyncio(loop_factories=["default"])  # it is refused before anything is started
    @pytest.mark.parametrize(
        ("threshold", "kind", "message"),
        [
            (0, ValueError, "threshold must be a finite number of seconds > 0, got 0"),
            ("1", TypeError, "threshold must be a number of seconds, got str"),
        ],
    )
    async def test_the_threshold_is_checked(self, threshold, kind, message):
        """Before a thread is started."""
        with refused(kind, message):
            watch_loop(threshold)
        assert watches_of(asyncio.get_running_loop()) == ()

    @pytest.mark.asyncio(loop_factories=["default"])  # nothing is started
    async def test_a_thread_that_cannot_be_started_leaves_nothing_behind(self, monkeypatch):
        """As many as the system allows are running already."""

        def refuse(self):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)
        with refused(RuntimeError, "can't start new thread"):
            watch_loop()
        assert watches_of(asyncio.get_running_loop()) == ()
