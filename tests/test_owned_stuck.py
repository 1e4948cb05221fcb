"""Owned tasks that do not stop when they are cancelled: each owner names them, again and again, and waits on."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from stuck import parked, stuck, warning
from tools import Boom, after, fail, forever, futures, messages, start, turns

import async_plus
from async_plus import cancel_and_wait, task_scope, try_gather

virtual = pytest.mark.virtual_time


@virtual
class TestStuckTasks:
    """A child that ignores its cancellation is waited for, never abandoned silently."""

    async def test_it_is_named_after_5_seconds_and_at_doubling_gaps(self, caplog, virtual_clock):
        """Each warning says who waits, for how long already, and where the task is parked on what."""
        with pytest.raises(Boom):
            await try_gather(stuck(40, "saver"), after(asyncio.sleep(1), Boom()))

        assert virtual_clock.elapsed == 41
        assert messages(caplog) == [
            warning("try_gather", 5, parked("saver", 35)),
            warning("try_gather", 15, parked("saver", 25)),
            warning("try_gather", 35, parked("saver", 5)),
        ]

    async def test_warnings_come_at_their_time(self, caplog, virtual_clock):
        """At 5, 15, 35, 75 seconds: the gaps are 5, 10, 20, 40."""
        came = []
        unsubscribe = async_plus.subscribe(lambda event: came.append(virtual_clock.elapsed))

        await cancel_and_wait(await start(stuck(100, "saver")))

        unsubscribe()
        assert came == [5, 15, 35, 75]
        assert virtual_clock.elapsed == 100

    async def test_all_that_are_stuck_are_named_in_one_warning(self, caplog):
        """Those that have stopped by then are not."""
        tasks = [await start(stuck(seconds, name)) for seconds, name in ((4.9, "a"), (7, "b"), (20, "c"))]

        await cancel_and_wait(*tasks)

        assert messages(caplog) == [
            warning("cancel_and_wait", 5, parked("b", 2), parked("c", 15)),
            warning("cancel_and_wait", 15, parked("c", 5)),
        ]

    async def test_one_that_stops_in_time_is_not_named(self, caplog, virtual_clock):
        """A cleanup may take a while."""
        await cancel_and_wait(await start(stuck(4.9, "saver")))

        assert caplog.records == []
        # And no timer is left that would look at it.
        await asyncio.sleep(60)
        assert caplog.records == []

    async def test_one_that_has_just_stopped_is_not_named(self, caplog, virtual_clock):
        """Its owner has not heard of it yet when the warning is due."""

        async def holds_out():
            try:
                await forever()
            finally:
                await released

        [released] = futures(1)
        stopping = await start(cancel_and_wait(await start(holds_out())))

        released.set_result(None)
        virtual_clock.jump(virtual_clock.time() + 5)
        await stopping

        assert caplog.records == []

    @pytest.mark.parametrize("seconds", [1, 20])
    @pytest.mark.parametrize("stop", [cancel_and_wait, lambda task: try_gather(task, fail(Boom()))])
    async def test_no_timer_is_left_of_the_warnings(self, stop, seconds, monkeypatch):
        """When all have stopped there is nothing to look at any more, be it before the first warning or later."""
        loop = asyncio.get_running_loop()
        timers = []

        def call_at(when, *args, **options):
            timers.append(type(loop).call_at(loop, when, *args, **options))
            return timers[-1]

        task = await start(stuck(seconds, "saver"))
        monkeypatch.setattr(loop, "call_at", call_at)
        with contextlib.suppress(Boom):
            await stop(task)

        assert timers
        assert not [timer for timer in timers if timer.when() > loop.time() and not timer.cancelled()]

    async def test_a_scope_names_itself(self, caplog):
        """Its name is in the warning, and the seconds are its own."""
        async with task_scope(warn_after=2, name="feeds") as scope:
            scope.launch(stuck(10, "saver"))
            await turns()

        assert messages(caplog) == [
            warning("task_scope 'feeds'", 2, parked("saver", 8)),
            warning("task_scope 'feeds'", 6, parked("saver", 4)),
        ]

    async def test_the_seconds_begin_with_the_cancellation(self, caplog, virtual_clock):
        """Not with the time that a scope gives its tasks to finish by themselves."""
        async with task_scope(drain=7, name="feeds") as scope:
            scope.launch(stuck(6, "saver"))

        assert virtual_clock.elapsed == 13
        assert messages(caplog) == [warning("task_scope 'feeds'", 5, parked("saver", 1))]

    async def test_a_future_that_is_stuck_is_named_by_its_type(self, caplog):
        """It has neither name nor place."""

        class Stubborn(asyncio.Future):
            def cancel(self, msg=None):
                return False

        future = Stubborn()
        asyncio.get_running_loop().call_later(6, future.set_result, None)

        await cancel_and_wait(future)

        assert messages(caplog) == [warning("cancel_and_wait", 5, "'Stubborn' parked on Stubborn")]

    async def test_a_caller_cancelled_meanwhile_changes_no_warning(self, caplog, virtual_clock):
        """It waits on, the seconds count from the first cancellation, and nobody is cancelled again."""
        task = await start(stuck(20, "saver"))
        stopping = await start(cancel_and_wait(task))
        for _ in range(3):
            await asyncio.sleep(3)
            stopping.cancel()

        with pytest.raises(asyncio.CancelledError):
            await stopping

        assert virtual_clock.elapsed == 20
        assert messages(caplog) == [
            warning("cancel_and_wait", 5, parked("saver", 15)),
            warning("cancel_and_wait", 15, parked("saver", 5)),
        ]

    async def test_one_cancelled_later_is_named_in_its_own_time(self, caplog):
        """However long the gap has grown for those before it."""
        async with task_scope(name="s") as scope:
            scope.launch(stuck(70, "old"))
            await turns()
            scope.cancel()
            await asyncio.sleep(18)  # named at 5 and 15, and again at 35
            scope.launch(stuck(7, "new"))
            await turns()
            scope.cancel()

        assert messages(caplog) == [
            warning("task_scope 's'", 5, parked("old", 65)),
            warning("task_scope 's'", 15, parked("old", 55)),
            warning("task_scope 's'", 23, parked("old", 47), parked("new", 2)),
            warning("task_scope 's'", 63, parked("old", 7)),
        ]

    async def test_many_cancelled_one_by_one_are_not_a_flood(self, caplog):
        """A warning names all that are due, and the next one comes no sooner than after 5 seconds."""
        async with task_scope(name="s") as scope:
            for number in range(4):
                scope.launch(stuck(12, f"number {number}"))
                await turns()
                scope.cancel()
                await asyncio.sleep(1)

        assert messages(caplog) == [
            warning("task_scope 's'", 5, parked("number 0", 7)),
            warning("task_scope 's'", 10, *(parked(f"number {number}", 2 + number) for number in range(4))),
        ]

    async def test_one_cancelled_later_is_named_though_the_first_has_stopped(self, caplog):
        """The timer was set for the first one; it is then set for the second."""
        async with task_scope(name="s") as scope:
            for name, seconds in (("quick", 4), ("slow", 6)):
                scope.launch(stuck(seconds, name))
                await turns()
                scope.cancel()
                await asyncio.sleep(3)

        assert messages(caplog) == [warning("task_scope 's'", 5, parked("slow", 1))]

    async def test_the_gaps_start_anew_when_all_had_stopped(self, caplog):
        """A scope may cancel many times in its life."""
        async with task_scope(name="s") as scope:
            for name in ("first", "second"):
                scope.launch(stuck(20, name))
                await turns()
                scope.cancel()
                await asyncio.sleep(100)

        assert messages(caplog) == [
            warning("task_scope 's'", 5, parked("first", 15)),
            warning("task_scope 's'", 15, parked("first", 5)),
            warning("task_scope 's'", 5, parked("second", 15)),
            warning("task_scope 's'", 15, parked("second", 5)),
        ]
