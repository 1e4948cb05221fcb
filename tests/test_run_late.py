"""`run` when something would not stop: the last words, and the exit that follows them."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from loops import each_loop, factories
from runs import INT, TERM, tell_to_stop
from tools import forever, messages, turns

from async_plus import Parked, Place, StopRequested, StuckTask, WouldNotStop, run, task_scope
from async_plus.runner.exits import exit_at_once
from async_plus.testing import VirtualClockLoop, record_events

GRACE = 0.01

# There the grace is not over before all that can run has run.
each_virtual_loop = pytest.mark.parametrize(
    "loop_factory", factories(virtual=True).values(), ids=factories(virtual=True)
)


async def stubborn(exits):
    """Ignore cancellations until the process has exited."""
    while not exits:
        try:
            await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            pass


def block(exits):
    """Keep the loop from running until the process has exited."""
    while not exits:
        time.sleep(0.001)


@pytest.mark.usefixtures("patient_watchdog")
class TestStuck:
    """A task that swallows its cancellation."""

    @each_virtual_loop
    def test_main_is_named_and_the_process_exits_with_70(self, loop_factory, exits, caplog):
        """After the grace, with all logs flushed before."""

        async def main():
            asyncio.current_task().set_name("main")
            tell_to_stop()
            await stubborn(exits)

        with record_events() as events, pytest.raises(SystemExit):
            run(main, grace=GRACE, loop_factory=loop_factory)

        assert exits == ["flushed", 70]
        [told, event] = events
        [task] = event.tasks
        assert (type(told), type(event)) == (StopRequested, WouldNotStop)
        assert (event.after, event.exit_code, event.blocked_at, event.level) == (GRACE, 70, None, logging.CRITICAL)
        assert (task.name, task.parked.place.function) == ("main", "stubborn")
        assert messages(caplog) == [("CRITICAL", str(event))]

    @each_virtual_loop
    def test_a_task_that_is_left_is_named(self, loop_factory, exits):
        """After a normal return of main, too; and what only waits for it is not."""

        async def waits_for_it():
            async with task_scope() as scope:
                scope.launch(stubborn(exits), name="stubborn")
                await scope.wait()

        async def main():
            tasks.append(asyncio.create_task(waits_for_it()))
            await turns()
            return 1

        tasks = []
        with record_events() as events:
            assert run(main, grace=GRACE, loop_factory=loop_factory) == 1
        assert exits == ["flushed", 70]
        assert [task.name for task in events[0].tasks] == ["stubborn"]

    @each_virtual_loop
    def test_a_generator_that_does_not_close_is_named(self, loop_factory, exits):
        """The grace is one for all of it."""

        async def generate():
            try:
                yield 1
            finally:
                await stubborn(exits)

        async def main():
            generators.append(generate())
            await anext(generators[-1])

        generators = []
        with record_events() as events:
            run(main, grace=GRACE, loop_factory=loop_factory)
        assert exits == ["flushed", 70]
        [task] = events[0].tasks
        assert task.parked.place.function == "stubborn"

    @each_loop
    def test_what_stops_at_once_needs_no_time_at_all(self, loop_factory, exits):
        """No grace at all is enough for a main that is cancelled at its await, and for one that returns."""

        async def main():
            tell_to_stop()
            await forever()

        with pytest.raises(SystemExit):
            run(main, grace=0, loop_factory=loop_factory)
        assert run(asyncio.sleep, 0, 1, grace=0, loop_factory=loop_factory) == 1
        assert exits == []

    def test_the_grace_goes_by_the_clock_of_the_loop(self, exits):
        """A virtual one jumps to its end."""

        async def main():
            clocks.append(asyncio.get_running_loop().clock)
            tell_to_stop()
            while not exits:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    pass
                late.append(clocks[0].elapsed)
                if len(late) == 2:
                    block(exits)

        clocks, late = [], []
        with pytest.raises(SystemExit):
            run(main, grace=20, drain=10, loop_factory=VirtualClockLoop)
        assert exits == ["flushed", 70]
        assert late[:2] == [10, 3610]


class TestBlocked:
    """A loop that runs nothing any more, no timer either."""

    # Where the loop must come round once more before it is blocked, there is time enough for that.

    @pytest.fixture(autouse=True)
    def quick_watchdog(self, monkeypatch):
        monkeypatch.setattr("async_plus.runner.lifecycle._BLOCKED", 0.01)

    @each_loop
    def test_the_line_that_blocks_it_is_named(self, loop_factory, exits, caplog):
        """By a thread, which counts from the signal."""

        async def main():
            asyncio.current_task().set_name("main")
            tell_to_stop()
            block(exits)

        with record_events() as events, pytest.raises(SystemExit):
            run(main, grace=GRACE, drain=GRACE, loop_factory=loop_factory)

        assert exits == ["flushed", 70]
        # (Whoever blocks the loop here is a test that goes on when it is told that the process ends.)
        [event, told] = events
        assert type(told) is StopRequested
        assert event.blocked_at.function == "block"
        assert [task.name for task in event.tasks] == ["main"]
        [record] = caplog.records
        assert (record.pathname, record.lineno) == (event.blocked_at.filename, event.blocked_at.lineno)

    @each_loop
    def test_a_callback_that_blocks_it_is_named(self, loop_factory, exits):
        """It need not be a task."""

        async def main():
            loop = asyncio.get_running_loop()
            loop.call_soon(tell_to_stop)
            loop.call_soon(block, exits)
            await forever()

        with record_events() as events, pytest.raises(SystemExit):
            run(main, grace=GRACE, loop_factory=loop_factory)
        assert exits == ["flushed", 70]
        assert events[0].blocked_at.function == "block"

    @each_loop
    def test_a_callback_without_a_line_of_its_own_is_named_as_well_as_it_can_be(self, loop_factory, exits):
        """By the line that calls it, which may be ours."""

        async def main():
            loop = asyncio.get_running_loop()
            loop.call_soon(tell_to_stop)
            loop.call_soon(time.sleep, 1)
            await forever()

        with record_events() as events, pytest.raises(SystemExit):
            run(main, grace=0, loop_factory=loop_factory)
        assert exits == ["flushed", 70]
        assert events[0].blocked_at.function in ("_run", "_drive")

    @each_loop
    def test_a_task_that_blocks_it_in_its_cleanup_is_named(self, loop_factory, exits):
        """The time is counted from the cancellation of main."""

        async def main():
            tell_to_stop()
            try:
                await forever()
            finally:
                block(exits)

        with record_events() as events, pytest.raises(SystemExit):
            run(main, grace=0.5, loop_factory=loop_factory)
        assert exits == ["flushed", 70]
        assert events[-1].blocked_at.function == "block"

    @each_loop
    def test_a_task_that_blocks_it_when_main_has_returned_is_named(self, loop_factory, exits):
        """No signal was needed, and none had set a time."""

        async def left():
            try:
                await forever()
            finally:
                block(exits)

        async def main():
            tasks.append(asyncio.create_task(left()))
            await turns()
            return 1

        tasks = []
        with record_events() as events:
            assert run(main, grace=0.5, loop_factory=loop_factory) == 1
        assert exits == ["flushed", 70]
        assert events[0].blocked_at.function == "block"

    @each_loop
    def test_an_executor_of_ones_own_that_does_not_close_ends_in_70_as_well(self, loop_factory, exits):
        """Nobody's code is to blame that we could name."""

        class Endless(ThreadPoolExecutor):
            def shutdown(self, wait=True, *, cancel_futures=False):
                while wait and not exits:
                    time.sleep(0.001)

        async def main():
            asyncio.get_running_loop().set_default_executor(Endless())

        with pytest.MonkeyPatch.context() as patch, record_events() as events:
            patch.setattr("async_plus.runner.lifecycle._LAST_STEPS", GRACE)
            patch.setattr("async_plus.runner.lifecycle._BLOCKED", 600)
            run(main, grace=0, loop_factory=loop_factory)
        assert exits == ["flushed", 70]
        assert str(events[0]) == (
            "not stopped after 0.0 s, so the process ends with code 70: "
            "no task is left, but the event loop does not end"
        )


class TestSecondSignal:
    """Whoever sends it does not want to wait."""

    @each_loop
    @pytest.mark.parametrize("signum", [TERM, INT])
    def test_the_process_exits_with_the_code_of_the_signal(self, loop_factory, exits, signum):
        """At once, with all logs flushed before."""

        async def main():
            tell_to_stop()
            tell_to_stop(signum)
            await stubborn(exits)

        with pytest.raises(SystemExit):
            run(main, loop_factory=loop_factory)
        assert exits == ["flushed", 128 + signum]

    def test_it_is_the_last_order(self, exits):
        """A third signal, or the end of the grace, adds nothing."""

        async def main():
            for _ in range(4):
                tell_to_stop()
            await stubborn(exits)

        with pytest.raises(SystemExit):
            run(main, grace=GRACE)
        assert exits == ["flushed", 128 + TERM]


class TestExitAtOnce:
    """Nothing can keep a process from it."""

    def test_last_words_that_hang_are_not_waited_for(self, exits, monkeypatch):
        """A log may be the very thing that the process hangs on."""
        monkeypatch.setattr("async_plus.runner.exits._LAST_WORDS", 0.01)
        released = threading.Event()

        exit_at_once(70, released.wait)

        assert exits == [70]
        released.set()
        while len(exits) < 2:
            time.sleep(0.001)

    def test_last_words_that_fail_do_not_keep_the_logs_from_being_flushed(self, exits, monkeypatch):
        """The error is shown as that of any thread."""
        shown = []
        monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(args.exc_type))

        exit_at_once(70, lambda: 1 / 0)

        assert exits == ["flushed", 70]
        assert shown == [ZeroDivisionError]

    def test_a_process_that_can_start_no_thread_exits_without_last_words(self, exits, monkeypatch):
        """There may be too many of them already."""

        def refuse(self):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)

        exit_at_once(70, lambda: exits.append("last words"))

        assert exits == [70]

    def test_a_process_without_standard_streams_exits_too(self, exits, monkeypatch):
        """A program without a console has none."""
        monkeypatch.setattr(sys, "stdout", None)
        monkeypatch.setattr(sys, "stderr", None)

        exit_at_once(70, lambda: None)

        assert exits == ["flushed", 70]


def test_the_event_tells_the_facts_flat():
    """For structured logs, and in one line for people."""
    place = Place("/app/parse.py", 12, "decode")
    tasks = (StuckTask("a", Parked(None, "Event.wait")), StuckTask("b", Parked(place, "sleep")))
    event = WouldNotStop(after=10, exit_code=70, blocked_at=place, tasks=tasks)

    assert str(event) == (
        "not stopped after 10.0 s, so the process ends with code 70: the event loop is blocked at "
        "/app/parse.py:12 in decode; 'a' parked on Event.wait; 'b' parked at /app/parse.py:12 in decode on sleep"
    )
    assert event.extra == {
        "async_plus_event": "WouldNotStop",
        "async_plus_after": 10,
        "async_plus_exit_code": 70,
        "async_plus_blocked_at": "/app/parse.py:12 in decode",
        "async_plus_tasks": "'a' parked on Event.wait; 'b' parked at /app/parse.py:12 in decode on sleep",
    }
