"""`cancel_and_wait`: what asyncio lacks a function for (gh-103486)."""

from __future__ import annotations

import asyncio

import pytest
from tools import (
    Bang,
    Boom,
    Lookalike,
    after,
    closed,
    fail,
    fail_when_cancelled,
    forever,
    futures,
    give,
    messages,
    noting,
    outlast,
    refused,
    start,
    turns,
)

from async_plus import cancel_and_wait, ignore, launch_watched, task_scope, try_gather


class TestWaiting:
    async def test_when_it_returns_every_task_has_stopped(self):
        """Its cleanup too, however long that takes."""
        log = []

        async def clean_up():
            try:
                await forever()
            finally:
                await turns(20)

        tasks = [await start(noting(log, "quick", forever())), await start(noting(log, "slow", clean_up()))]

        assert await cancel_and_wait(*tasks) is None

        assert all(task.cancelled() for task in tasks)
        assert log == [
            ("quick", "CancelledError"),
            ("quick", "ended"),
            ("slow", "CancelledError"),
            ("slow", "ended"),
        ]

    async def test_nothing_to_cancel_is_fine(self):
        """No arguments, and it has returned."""
        await cancel_and_wait()

    async def test_each_is_cancelled_once(self):
        """Though it is given several times, and though the wait is long."""
        [released] = futures(1)
        task = await start(outlast(released))
        stopping = await start(cancel_and_wait(task, task, task))

        assert task.cancelling() == 1
        released.set_result("went on")
        await stopping
        assert task.result() == "went on"

    async def test_done_tasks_are_left_as_they_are(self):
        """Finished, failed or cancelled: there is nothing to do, and nothing is marked as seen."""
        [cancelled] = futures(1)
        cancelled.cancel()
        finished, failed = await start(give(1)), await start(fail(Boom()))

        await cancel_and_wait(finished, failed, cancelled)

        assert finished.result() == 1
        assert failed._log_traceback, "asyncio would not report it any more"
        assert isinstance(failed.exception(), Boom)

    async def test_a_task_that_finishes_on_its_own_meanwhile_is_fine(self):
        """Its result stays."""
        [released] = futures(1)
        task = await start(after(released, "done"))
        released.set_result(None)

        await cancel_and_wait(task)

        assert task.done()

    @pytest.mark.parametrize("kind", [asyncio.Future, asyncio.futures._PyFuture], ids=["C", "Python"])
    async def test_futures_are_cancelled_too(self, kind):
        """Those of C and those of pure Python."""
        future = kind(loop=asyncio.get_running_loop())

        await cancel_and_wait(future)

        assert future.cancelled()

    async def test_pure_python_tasks_are_cancelled_too(self):
        """A program may make them."""
        task = asyncio.tasks._PyTask(forever(), loop=asyncio.get_running_loop())
        await turns()

        await cancel_and_wait(task)

        assert task.cancelled()

    async def test_a_gather_of_asyncio_stops_with_its_children(self):
        """It is done when they are."""
        log = []
        gathering = asyncio.gather(noting(log, "a", forever()), noting(log, "b", forever()))
        await turns()

        await cancel_and_wait(gathering)

        assert sorted(log) == [("a", "CancelledError"), ("a", "ended"), ("b", "CancelledError"), ("b", "ended")]

    async def test_a_task_that_has_not_started_never_does(self):
        """And is not warned of."""
        log = []
        # No eager task: that one has no moment before its first step.
        task = asyncio.Task(noting(log, "a", inner := forever()))

        await cancel_and_wait(task)

        assert task.cancelled()
        assert log == []
        inner.close()

    async def test_a_task_that_stops_another_one_is_no_trouble(self):
        """Both are given, in either order."""

        async def stop_other(task):
            try:
                await forever()
            finally:
                await cancel_and_wait(task)

        first = await start(forever())
        second = await start(stop_other(first))

        await cancel_and_wait(second, first)

        assert first.cancelled()
        assert second.cancelled()

    async def test_the_counts_of_the_caller_stay(self):
        """It cancels others, never itself (gh-116720)."""
        before = asyncio.current_task().cancelling()
        task = await start(forever())

        await cancel_and_wait(task)

        assert asyncio.current_task().cancelling() == before

    async def test_it_works_in_the_cleanup_of_a_cancelled_task(self):
        """Where it is needed most: the pending cancellation does not disturb it."""
        log = []

        async def service():
            helper = asyncio.create_task(noting(log, "helper", forever()))
            try:
                await forever()
            finally:
                await cancel_and_wait(helper)
                log.append("clean")

        task = await start(service())
        task.cancel()
        await asyncio.wait([task])

        assert task.cancelled()
        assert log == [("helper", "CancelledError"), ("helper", "ended"), "clean"]


class TestErrors:
    async def test_an_error_of_the_cleanup_is_logged_never_raised(self, caplog):
        """With its traceback, and the name of the task."""
        error = Boom()
        task = await start(fail_when_cancelled(error, "saver"))

        await cancel_and_wait(task)

        [record] = caplog.records
        assert messages(caplog) == [
            ("ERROR", "task 'saver' failed with Boom, not raised by cancel_and_wait: it ends otherwise"),
        ]
        assert record.exc_info[1] is error

    async def test_an_error_is_logged_at_once(self, caplog):
        """Others may take long to stop."""
        [released] = futures(1)
        stubborn, failing = await start(outlast(released)), await start(fail_when_cancelled(Boom(), "saver"))
        stopping = await start(cancel_and_wait(stubborn, failing))

        assert messages(caplog) == [
            ("ERROR", "task 'saver' failed with Boom, not raised by cancel_and_wait: it ends otherwise"),
        ]
        released.set_result(None)
        await stopping

    @pytest.mark.parametrize("owner", ["launch_watched", "task_scope"])
    async def test_the_failure_of_a_watched_task_is_reported_once(self, owner, caplog):
        """By whoever watches it."""
        async with task_scope() as scope:
            launch = launch_watched if owner == "launch_watched" else scope.launch
            task = launch(fail_when_cancelled(Boom()), name="watched")
            await turns()

            await cancel_and_wait(task)

        [(level, message)] = messages(caplog)
        assert level == "ERROR"
        assert message.startswith("task 'watched' failed with Boom, launched at ")

    async def test_an_ignored_failure_is_reported_here(self, caplog):
        """``on_exception=ignore`` leaves it to whoever waits for the task."""
        task = launch_watched(fail_when_cancelled(Boom(), "ignored"), on_exception=ignore)
        await turns()

        await cancel_and_wait(task)

        assert messages(caplog) == [
            ("ERROR", "task 'ignored' failed with Boom, not raised by cancel_and_wait: it ends otherwise"),
        ]

    async def test_the_failure_of_a_gathers_child_is_left_to_the_gather(self, caplog):
        """It raises the error, so that nobody needs to log it."""
        task = await start(fail_when_cancelled(Boom()))
        host = await start(try_gather(task, forever()))

        await cancel_and_wait(task)

        with pytest.raises(Boom):
            await host
        assert caplog.records == []

    async def test_a_gather_and_all_its_children_given_together_report_each_error_once(self, caplog):
        """As at the end of a program that cancels whatever there is."""
        before = asyncio.all_tasks()
        await start(try_gather(fail_when_cancelled(Boom(), "a"), fail_when_cancelled(Bang(), "b")))

        await cancel_and_wait(*(asyncio.all_tasks() - before))

        assert sorted(messages(caplog)) == [
            ("ERROR", "task 'a' failed with Boom, not raised by try_gather: it ends otherwise"),
            ("ERROR", "task 'b' failed with Bang, not raised by try_gather: it ends otherwise"),
        ]

    async def test_two_that_stop_the_same_task_log_its_error_once(self, caplog):
        """Both wait until it has stopped."""
        task = await start(fail_when_cancelled(Boom(), "saver"))

        await try_gather(cancel_and_wait(task), cancel_and_wait(task))

        assert messages(caplog) == [
            ("ERROR", "task 'saver' failed with Boom, not raised by cancel_and_wait: it ends otherwise"),
        ]
        assert task.done()

    async def test_a_future_that_holds_a_cancellation_is_no_error(self, caplog):
        """A thread that raises CancelledError makes one."""
        [future] = futures(1)
        loop = asyncio.get_running_loop()

        class Slow(asyncio.Future):
            def cancel(self, msg=None):
                loop.call_soon(self.set_exception, asyncio.CancelledError())
                return True

        await cancel_and_wait(future, Slow(loop=loop))

        assert caplog.records == []


class TestCancelledMeanwhile:
    @pytest.mark.parametrize("times", [1, 3])
    async def test_a_cancelled_caller_still_waits_and_is_cancelled_then(self, times):
        """However often; by the first reason, and nobody is cancelled twice for it."""
        [released] = futures(1)
        task = await start(outlast(released))
        stopping = await start(cancel_and_wait(task))

        for number in range(times):
            stopping.cancel(f"reason {number}")
            await turns()
        assert not stopping.done()
        released.set_result(None)

        with pytest.raises(asyncio.CancelledError) as caught:
            await stopping
        assert caught.value.args == ("reason 0",)
        assert stopping.cancelling() == times
        assert task.cancelling() == 1

    async def test_a_caller_cancelled_before_its_first_step_cancels_nobody(self):
        """It has not begun."""
        task = await start(forever())
        # No eager task: that one has no moment before its first step.
        stopping = asyncio.Task(cancel_and_wait(task))
        stopping.cancel()
        await asyncio.wait([stopping])

        assert stopping.cancelled()
        assert task.cancelling() == 0
        await cancel_and_wait(task)

    async def test_errors_are_logged_although_the_caller_is_cancelled(self, caplog):
        """Nothing of them can be raised anyway."""
        [released] = futures(1)

        async def fails_late():
            await outlast(released)
            raise Boom

        task = await start(fails_late(), "saver")
        stopping = await start(cancel_and_wait(task))
        stopping.cancel()
        await turns()
        released.set_result(None)

        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert messages(caplog) == [
            ("ERROR", "task 'saver' failed with Boom, not raised by cancel_and_wait: it ends otherwise"),
        ]

    @pytest.mark.virtual_time
    async def test_a_timeout_around_it_comes_when_all_have_stopped(self, virtual_clock):
        """Nothing is abandoned silently, not even for a timeout."""
        [released] = futures(1)
        asyncio.get_running_loop().call_later(4, released.set_result, None)
        task = await start(outlast(released))

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await cancel_and_wait(task)

        assert virtual_clock.elapsed == 4
        assert task.done()

    async def test_the_task_may_cancel_its_canceller(self):
        """In its cleanup, while it is waited for."""

        async def hits_back():
            try:
                await forever()
            finally:
                stopping.cancel("back")

        task = await start(hits_back())
        stopping = asyncio.create_task(cancel_and_wait(task))

        with pytest.raises(asyncio.CancelledError) as caught:
            await stopping
        assert caught.value.args == ("back",)
        assert task.cancelled()


class TestRefusals:
    """Anything but tasks and futures is refused before any cancellation."""

    NO_TASK = "argument 1 of cancel_and_wait() must be a task or a future, got "

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (None, "NoneType"),
            (5, "int 5"),
            ("task", "str"),
            (give, "the function give (call it)"),
            (asyncio.Task, "the class Task"),
            ([], "list (unpack it with *)"),
        ],
    )
    async def test_what_is_no_task_is_refused(self, value, shown):
        """The message says which argument and what it is."""
        task = await start(forever())

        with refused(TypeError, f"argument 2 of cancel_and_wait() must be a task or a future, got {shown}"):
            await cancel_and_wait(task, value)

        assert task.cancelling() == 0
        await cancel_and_wait(task)

    async def test_coroutines_are_refused_and_closed(self):
        """Alone or in a list: they are no tasks, and nobody is going to await them."""
        coroutine, second, third = give(1), give(2), give(3)

        with refused(TypeError, self.NO_TASK + "coroutine"):
            await cancel_and_wait(coroutine, Lookalike(second))
        with refused(TypeError, self.NO_TASK + "list (unpack it with *)"):
            await cancel_and_wait([third])

        assert all(map(closed, [coroutine, second, third]))

    async def test_a_list_of_tasks_is_refused_and_they_go_on(self):
        """There is a star missing."""
        task = await start(forever())

        with refused(TypeError, self.NO_TASK + "set (unpack it with *)"):
            await cancel_and_wait({task})

        assert task.cancelling() == 0
        await cancel_and_wait(*{task})

    async def test_the_current_task_is_refused(self):
        """It would wait for its own end."""
        task = await start(forever())

        message = "argument 2 of cancel_and_wait() is the current task, which cannot wait for itself"
        with refused(RuntimeError, message):
            await cancel_and_wait(task, asyncio.current_task())

        assert task.cancelling() == 0
        await cancel_and_wait(task)

    async def test_a_future_of_another_loop_is_refused(self):
        """It could never wake us."""
        other = asyncio.new_event_loop()
        try:
            future = other.create_future()
            with refused(ValueError, "argument 1 of cancel_and_wait() belongs to another event loop"):
                await cancel_and_wait(future)
        finally:
            other.close()

        assert not future.cancelled()

    def test_without_a_running_loop_it_is_refused(self):
        """As everything of asyncio is."""
        coroutine = give(1)

        with refused(RuntimeError, "no running event loop"):
            cancel_and_wait(coroutine).send(None)

        assert closed(coroutine)
