"""The virtual clock, the leak check and the recorded events that users get for their own tests."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import math
import selectors
import socket
import subprocess
import sys
import threading
import time

import freezegun
import hypothesis
import hypothesis.strategies as st
import pytest

import async_plus
from async_plus import events
from async_plus.testing import VirtualClock, VirtualClockLoop, record_events

DAY = 86_400.0

virtual = pytest.mark.virtual_time


def work() -> str:
    """Keep a thread busy for some real milliseconds, with the loop free to run meanwhile."""
    return hashlib.pbkdf2_hmac("sha256", b"", b"", 50_000).hex()


class TestVirtualClock:
    """Time stands still while anything can run, and otherwise jumps to the next timer."""

    async def test_an_hour_passes_at_once_on_every_clock(self, virtual_clock):
        """Loop, time and datetime tell the same virtual time, from 1970-01-02 on."""
        loop = asyncio.get_running_loop()
        assert loop.time() == time.monotonic() == time.time() == virtual_clock.time() == DAY
        assert virtual_clock.elapsed == 0

        await asyncio.sleep(3600)

        assert loop.time() == time.monotonic() == time.time() == virtual_clock.time() == DAY + 3600
        assert virtual_clock.elapsed == 3600
        assert datetime.datetime.now() == datetime.datetime(1970, 1, 2, 1)
        assert repr(virtual_clock) == "<VirtualClock elapsed=3600>"

    async def test_elapsed_is_exact_to_the_microsecond(self, virtual_clock):
        """Tests compare it with ==, so the rounding errors of adding up floats do not show."""
        for _ in range(3):
            await asyncio.sleep(0.1)

        assert virtual_clock.elapsed == 0.3

    @virtual
    async def test_a_marked_test_runs_with_frozen_clocks_too(self):
        """The marker does what the fixture does, for a test that does not look at the clock."""
        assert time.monotonic() == asyncio.get_running_loop().time() == DAY

    async def test_time_stands_still_while_a_task_can_run(self, virtual_clock):
        """A timer never overtakes work that needs no waiting, however many steps that takes."""
        async with asyncio.timeout(0.001):
            for _ in range(1000):
                await asyncio.sleep(0)

        assert virtual_clock.elapsed == 0

    async def test_timers_fire_in_order_each_at_its_own_time(self, virtual_clock):
        """Timers set in any order fire in the order of their times, equal ones in the order set."""
        loop, fired = asyncio.get_running_loop(), []
        for delay in (3, 1, 2, 1, 0, 10_000_000):
            loop.call_later(delay, lambda delay=delay: fired.append((delay, virtual_clock.elapsed)))

        await asyncio.sleep(10_000_001)

        assert fired == [(0, 0), (1, 1), (1, 1), (2, 2), (3, 3), (10_000_000, 10_000_000)]

    async def test_cancelled_timers_move_no_clock(self, virtual_clock):
        """A timer that was cancelled neither fires nor counts."""
        loop, fired = asyncio.get_running_loop(), []
        loop.call_later(5, fired.append, "early").cancel()
        late = loop.call_at(loop.time() + 7, fired.append, "late")

        await asyncio.sleep(6)
        late.cancel()
        await asyncio.sleep(0)

        assert (fired, virtual_clock.elapsed) == ([], 6)

    async def test_a_timer_cancelled_by_one_due_at_the_same_time_does_not_fire(self, virtual_clock):
        """As on a real loop, what is due can still be cancelled by what runs just before it."""
        loop, fired = asyncio.get_running_loop(), []
        handles = []
        loop.call_later(1, lambda: handles[0].cancel())
        handles.append(loop.call_later(1, fired.append, "cancelled"))

        await asyncio.sleep(2)

        assert fired == []

    async def test_threads_are_waited_for_in_real_time(self, virtual_clock):
        """The result of a thread comes before any timer; once it is there, time goes on."""
        async with asyncio.timeout(0.001):
            assert await asyncio.to_thread(work) == work()

        assert virtual_clock.elapsed == 0
        await asyncio.sleep(5)
        assert virtual_clock.elapsed == 5

    async def test_bytes_on_the_loopback_interface_come_before_any_timer(self, virtual_clock):
        """Client and server in one test talk without virtual time passing."""

        async def echo(reader, writer):
            writer.write(await reader.readline())
            writer.close()
            await writer.wait_closed()

        async with asyncio.timeout(0.001), await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            assert await reader.read() == b"hello\n"
            writer.close()
            await writer.wait_closed()

        assert virtual_clock.elapsed == 0

    # Its patch reaches only the selectors of asyncio's own loops.
    @pytest.mark.asyncio(loop_factories=["default", "debug"])
    async def test_bytes_that_take_a_moment_come_before_any_timer(self, virtual_clock, monkeypatch):
        """Where the kernel does not hand bytes over at once, the loop waits a real moment for them."""
        at_once = selectors.DefaultSelector.select
        monkeypatch.setattr(
            selectors.DefaultSelector, "select", lambda self, timeout: at_once(self, timeout) if timeout else []
        )
        ours, theirs = socket.socketpair()
        with ours, theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            async with asyncio.timeout(0.001):
                theirs.send(b"hello\n")
                assert await reader.readline() == b"hello\n"
            writer.close()
            await writer.wait_closed()

        assert virtual_clock.elapsed == 0

    @virtual
    async def test_bytes_that_are_late_are_no_deadlock(self):
        """With no timer to jump to, a busy machine gets longer to deliver them."""
        ours, theirs = socket.socketpair()
        sent = threading.Timer(0.05, theirs.send, [b"hello\n"])
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            sent.start()
            assert await reader.readline() == b"hello\n"
            writer.close()
            await writer.wait_closed()

    async def test_only_the_innermost_frozen_clock_moves(self, virtual_clock):
        """A test that freezes time at a date of its own sees that date move on."""
        with freezegun.freeze_time("2030-01-01"):
            await asyncio.sleep(60)
            assert datetime.datetime.now() == datetime.datetime(2030, 1, 1, 0, 1)

    async def test_the_own_frozen_clock_goes_on_under_a_date_of_the_tests(self, virtual_clock):
        """Behind that date, however deep, the clocks are where the loop is. Only the innermost date has moved."""
        with freezegun.freeze_time("2030-01-01"):
            with freezegun.freeze_time("2040-01-01"):
                await asyncio.sleep(100)
            assert datetime.datetime.now() == datetime.datetime(2030, 1, 1)
            await asyncio.sleep(10)
            assert datetime.datetime.now() == datetime.datetime(2030, 1, 1, 0, 0, 10)

        assert time.monotonic() == time.time() == virtual_clock.time() == DAY + 110

    async def test_another_loops_time_moves_no_clock_of_the_tests(self, virtual_clock):
        """They belong to the loop on which it runs."""
        other = type(asyncio.get_running_loop())()

        def run():
            other.run_until_complete(asyncio.sleep(50))
            other.close()

        await asyncio.to_thread(run)

        assert other.time() == DAY + 50
        assert time.monotonic() == virtual_clock.time() == DAY

    async def test_an_error_in_a_timer_goes_to_the_exception_handler(self, virtual_clock, no_leaks):
        """A timer callback that raises is reported as on a real loop, and the loop goes on."""
        asyncio.get_running_loop().call_later(1, lambda: 1 / 0)

        await asyncio.sleep(2)

        [record] = no_leaks.errors
        assert record.exc_info[0] is ZeroDivisionError
        no_leaks.errors.clear()

    @hypothesis.given(delays=st.lists(st.floats(min_value=0, max_value=1e7), min_size=1, max_size=5))
    def test_frozen_clocks_are_never_behind_the_loop(self, delays):
        """What a timer says is due is due by time.monotonic() too, to the microsecond above."""
        clock = VirtualClock()
        with freezegun.freeze_time("1970-01-02"):
            for delay in delays:
                clock.jump(clock.time() + delay)
                assert clock.time() <= time.monotonic() <= clock.time() + 2e-6

    def test_a_clock_moves_where_nothing_is_frozen(self, monkeypatch):
        """Without freezegun there are no other clocks to take along."""
        monkeypatch.delitem(sys.modules, "freezegun.api")
        clock = VirtualClock()

        clock.jump(clock.time() + 5)

        assert clock.elapsed == 5

    @pytest.mark.parametrize(
        ("when", "error", "message"),
        [
            ("1", TypeError, "when must be a number of seconds, got str"),
            (None, TypeError, "when must be a number of seconds, got NoneType"),
            (True, TypeError, "when must be a number of seconds, got bool True"),
            (math.nan, ValueError, "when must be a finite number of seconds >= 0, got nan"),
            (math.inf, ValueError, "when must be a finite number of seconds >= 0, got inf"),
            (-1, ValueError, "when must be a finite number of seconds >= 0, got -1"),
            (
                60,
                ValueError,
                "when must not be before the clock's own time, 86400, got 60 "
                "(to go on by some seconds, add them to time())",
            ),
        ],
    )
    def test_a_time_that_cannot_be_gone_on_to_is_refused(self, when, error, message):
        """No clock has moved then."""
        clock = VirtualClock()

        with pytest.raises(error) as caught:
            clock.jump(when)

        assert str(caught.value) == message
        assert clock.elapsed == 0

    @virtual
    async def test_a_loop_runs_again_after_an_earlier_run(self):
        """run_until_complete can be called many times, as Runner and pytest-asyncio do."""
        loop = type(asyncio.get_running_loop())()

        def runs():
            for _ in range(3):
                loop.run_until_complete(asyncio.sleep(20))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()
            return loop.time()

        assert await asyncio.to_thread(runs) == DAY + 60

    @virtual
    async def test_closing_a_loop_waits_for_its_threads_in_real_time(self):
        """The time limit for joining threads is not jumped to; the thread's work is done when the loop is closed."""
        factory, done = type(asyncio.get_running_loop()), []

        async def leave_a_thread_behind():
            asyncio.get_running_loop().run_in_executor(None, lambda: done.append(work()))

        def whole_run():
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(leave_a_thread_behind())

        await asyncio.to_thread(whole_run)

        assert len(done) == 1

    def test_the_loop_needs_no_freezegun(self):
        """Whoever only wants the loop, say in a script, need not have freezegun installed."""
        program = (
            "import asyncio, sys; sys.modules['freezegun'] = None\n"
            "from async_plus.testing import VirtualClockLoop\n"
            "with asyncio.Runner(loop_factory=VirtualClockLoop) as runner: runner.run(asyncio.sleep(3600))\n"
        )
        subprocess.run([sys.executable, "-c", program], check=True)


def deadlock_of(factory, main, name):
    """Run *main* in a loop of the factory, as a task of that name; return the error and how long it took to come."""
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        task = loop.create_task(main(), name=name)
        with pytest.raises(RuntimeError) as caught:
            loop.run_until_complete(task)
        return str(caught.value), loop.clock.elapsed


class TestDeadlock:
    """When every task waits and no timer is set, a virtual loop says so instead of hanging."""

    @virtual
    async def test_the_error_names_the_tasks_and_where_they_are_parked(self):
        """One line for all: each task's name, file, line and function, and what it waits on."""
        factory = type(asyncio.get_running_loop())

        async def take(queue):
            await queue.get()

        async def wait_for_ever():
            task = asyncio.create_task(take(asyncio.Queue()), name="taker")
            await task

        line = take.__code__.co_firstlineno + 1
        host_line = wait_for_ever.__code__.co_firstlineno + 2
        text, _ = await asyncio.to_thread(deadlock_of, factory, wait_for_ever, "host")
        assert text == (
            "deadlock on the virtual clock: no timer is set, and every task waits: "
            f"'host' at {__file__}:{host_line} in wait_for_ever on task 'taker'; "
            f"'taker' at {__file__}:{line} in take on Queue.get"
        )

    @virtual
    async def test_a_loop_without_tasks_says_so(self):
        """run_forever with nothing to do is a deadlock as well."""
        loop = type(asyncio.get_running_loop())()

        def forever():
            with pytest.raises(RuntimeError) as caught:
                loop.run_forever()
            loop.close()
            return str(caught.value)

        assert await asyncio.to_thread(forever) == (
            "deadlock on the virtual clock: no timer is set, and every task waits: (there is no task at all)"
        )

    @virtual
    @pytest.mark.parametrize("seconds", [1e7, 123_456_789.123, 1e9])
    async def test_a_timer_may_be_years_away(self, virtual_clock, seconds):
        """The fractions of a second become coarse there; what is due is run all the same."""
        await asyncio.sleep(seconds)

        assert virtual_clock.elapsed == pytest.approx(seconds)
        done = asyncio.Event()
        asyncio.get_running_loop().call_at(virtual_clock.time(), done.set)
        await done.wait()
        assert virtual_clock.elapsed == pytest.approx(seconds)

    @virtual
    async def test_a_timer_at_infinity_is_none(self):
        """It never comes, so there is nothing to jump to. Whoever waits for it waits for ever."""
        factory = type(asyncio.get_running_loop())

        async def wait():
            await asyncio.sleep(math.inf)

        text, elapsed = await asyncio.to_thread(deadlock_of, factory, wait, "waiter")

        assert text.startswith("deadlock on the virtual clock: no timer is set, and every task waits: 'waiter' at ")
        assert elapsed == 0

    @virtual
    async def test_a_time_limit_at_infinity_is_none_either(self, virtual_clock):
        """It can be set, changed and cancelled like any other."""
        async with asyncio.timeout(math.inf) as limit:
            await asyncio.sleep(1)
            limit.reschedule(asyncio.get_running_loop().time() + 5)
            limit.reschedule(math.inf)
            await asyncio.sleep(10)

        assert virtual_clock.elapsed == 11

    # The twin on uvloop leaves them to whoever closes it.
    @pytest.mark.asyncio(loop_factories=["default", "debug"])
    @virtual
    async def test_a_task_that_ignores_its_end_is_given_a_minute(self):
        """Then the error is told all the same, and the loop can be used again."""
        loop = type(asyncio.get_running_loop())()

        async def ignore():
            for _ in range(2):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()

        def whole_run():
            task = loop.create_task(ignore())
            with pytest.raises(RuntimeError, match="deadlock on the virtual clock"):
                loop.run_until_complete(task)
            task.cancel()
            loop.run_until_complete(task)
            loop.close()
            return loop.clock.elapsed

        assert await asyncio.to_thread(whole_run) == 60

    @virtual
    async def test_a_future_that_nobody_resolves_is_a_deadlock(self):
        """It has no task that could be ended."""
        loop = type(asyncio.get_running_loop())()

        def whole_run():
            with pytest.raises(RuntimeError, match="there is no task at all"):
                loop.run_until_complete(loop.create_future())
            loop.close()

        await asyncio.to_thread(whole_run)

    @virtual
    async def test_an_error_of_the_programs_own_ends_no_other_task(self):
        """Only a deadlock ends what the run has started."""
        loop = type(asyncio.get_running_loop())()

        async def start_and_fail():
            nonlocal task
            task = asyncio.create_task(asyncio.sleep(1, "slept"))
            raise RuntimeError("of its own")

        task = None

        def whole_run():
            with pytest.raises(RuntimeError, match="of its own"):
                loop.run_until_complete(start_and_fail())
            slept = loop.run_until_complete(task)
            loop.close()
            return slept

        assert await asyncio.to_thread(whole_run) == "slept"


class TestRecordEvents:
    """record_events() collects what async_plus notices, while logging goes on."""

    def test_events_of_the_block_are_recorded_in_order(self, caplog):
        """Only those inside the block, as the objects that subscribers get."""

        def event(attempt):
            return events.AttemptStarted(service="feed", attempt=attempt)

        events.emit(event(1))
        with record_events() as recorded:
            events.emit(event(2))
            events.emit(event(3))
        events.emit(event(4))

        assert recorded == [event(2), event(3)]

    def test_the_subscription_ends_when_the_block_fails(self):
        """An assertion that fails inside the block leaves no subscriber behind."""
        with pytest.raises(ZeroDivisionError), record_events() as recorded:
            raise ZeroDivisionError
        events.emit(events.AttemptStarted(service="feed", attempt=1))

        assert recorded == []


def test_the_plugin_is_public_under_the_package():
    """Users write `from async_plus.testing import ...` and need no other module."""
    assert issubclass(VirtualClockLoop, asyncio.SelectorEventLoop)
    assert not hasattr(async_plus, "VirtualClockLoop")
