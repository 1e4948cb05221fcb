"""The same scenarios with `asyncio.gather` and `asyncio.TaskGroup`: each difference that the README claims.

What the standard library does is asserted as it is, so that a Python that does better shows up here.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

import pytest
from tools import (
    Bang,
    Boom,
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

from async_plus import UnexpectedCancellation, cancel_and_wait, task_scope, try_gather


async def task_group(*coroutines):
    """`asyncio.TaskGroup` in the form of a gather."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
    return [task.result() for task in tasks]


async def ended(coroutine):
    """Run *coroutine* in a task of its own, which a TaskGroup may leave marked as cancelled (gh-116720)."""
    task = asyncio.create_task(coroutine)
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # or asyncio would report that nobody had looked at it
    return task


def forgotten(leaks):
    """The first lines of the warnings about coroutines that were never awaited."""
    lines = [text.splitlines()[0] for text in leaks.never_awaited]
    leaks.never_awaited.clear()
    return lines


class TestFailure:
    """One of several fails."""

    async def test_gather_leaves_the_siblings_running(self):
        """They go on behind the caller's back."""
        log = []

        with pytest.raises(Boom):
            await asyncio.gather(noting(log, "sibling", turns(3)), fail(Boom()))

        assert log == []
        await turns()
        assert log == [("sibling", "ended")]

    async def test_task_group_stops_them_and_raises_a_group(self):
        """Whoever awaits it needs ``except*``, even for a single error."""
        log = []
        error = Boom()

        task = await ended(task_group(noting(log, "sibling", forever()), after(asyncio.sleep(0), error)))

        assert log == [("sibling", "CancelledError"), ("sibling", "ended")]
        assert type(task.exception()) is ExceptionGroup
        assert task.exception().exceptions == (error,)

    async def test_try_gather_stops_them_and_raises_the_error_itself(self):
        """``except Boom`` is enough."""
        log = []
        error = Boom()

        with pytest.raises(Boom) as caught:
            await try_gather(noting(log, "sibling", forever()), after(asyncio.sleep(0), error))

        assert log == [("sibling", "CancelledError"), ("sibling", "ended")]
        assert caught.value is error


class TestLaterErrors:
    """A second one fails, when the first error is on its way to the caller."""

    async def test_gather_loses_later_errors(self, caplog):
        """It marks them as retrieved and shows them to nobody, now or when they are garbage."""
        [released] = futures(1)
        failing = asyncio.create_task(after(released, Bang()))

        with pytest.raises(Boom):
            await asyncio.gather(fail(Boom()), failing)
        released.set_result(None)
        await turns()

        assert failing.done()
        assert not failing._log_traceback, "asyncio would still report it"
        assert caplog.records == []

    async def test_task_group_raises_them_in_its_group_when_all_is_over(self, caplog):
        """Nobody hears of them until the last sibling has stopped."""
        [released] = futures(1)
        task = asyncio.create_task(
            task_group(outlast(released), after(asyncio.sleep(0), Boom()), fail_when_cancelled(Bang()))
        )
        await turns()
        assert not task.done()
        assert caplog.records == []
        released.set_result(None)
        await asyncio.wait([task])

        assert [type(error) for error in task.exception().exceptions] == [Boom, Bang]

    async def test_try_gather_logs_them_at_once(self, caplog):
        """While the last sibling is still stopping."""
        [released] = futures(1)
        task = await start(
            try_gather(outlast(released), after(asyncio.sleep(0), Boom()), fail_when_cancelled(Bang(), "saver"))
        )

        assert messages(caplog) == [
            ("ERROR", "task 'saver' failed with Bang, not raised by try_gather: it ends otherwise"),
        ]
        released.set_result(None)
        with pytest.raises(Boom):
            await task


class TestForeignCancellation:
    """Somebody cancels a child, not the caller."""

    async def test_gather_looks_as_if_the_caller_had_been_cancelled(self):
        """Its code for a stop runs, although nobody stops it; its count of cancellations is zero."""
        child = asyncio.create_task(forever())
        host = await start(asyncio.wait_for(asyncio.gather(child, give(1)), None))
        child.cancel()
        await asyncio.wait([host])

        assert host.cancelled()
        assert host.cancelling() == 0

    async def test_task_group_takes_no_notice(self):
        """The child's work is missing, and nobody is told."""
        done = []

        async def host():
            async with asyncio.TaskGroup() as group:
                child = group.create_task(forever())
                group.create_task(give(1))
                await turns(3)
                child.cancel()
            done.append("all is well")

        await asyncio.create_task(host())

        assert done == ["all is well"]

    async def test_try_gather_raises_an_unexpected_cancellation(self):
        """An error like others, with the cancellation as its cause."""
        child = await start(forever(), "child")
        host = await start(try_gather(child, give(1)))
        child.cancel()

        with refused(UnexpectedCancellation, "child was cancelled while try_gather waited for it"):
            await host


class TestCancellation:
    """The caller is cancelled, and its children take some time to clean up."""

    @staticmethod
    async def slow(released, log):
        try:
            await forever()
        finally:
            try:
                await released
                log.append("clean")
            except asyncio.CancelledError:
                log.append("cut short")
                raise

    async def test_gather_raises_before_they_have_stopped(self):
        """As soon as the first has, the others go on without an owner."""
        log = []
        [released] = futures(1)
        host = await start(asyncio.wait_for(asyncio.gather(forever(), self.slow(released, log)), None))

        host.cancel()
        await asyncio.wait([host])

        assert log == []
        released.set_result(None)
        await turns()
        assert log == ["clean"]

    async def test_gather_cuts_their_cleanup_short_when_cancelled_again(self):
        """Each cancellation of the caller is one of every child."""
        log = []
        [released] = futures(1)
        host = await start(asyncio.wait_for(asyncio.gather(self.slow(released, log)), None))

        host.cancel()
        await turns()
        host.cancel()
        await asyncio.wait([host])

        assert log == ["cut short"]

    @pytest.mark.parametrize("call", [task_group, try_gather])
    async def test_task_group_and_try_gather_wait_for_them(self, call):
        """However often the caller is cancelled, each child is cancelled once."""
        log = []
        [released] = futures(1)
        host = await start(call(forever(), self.slow(released, log)))

        host.cancel()
        await turns()
        host.cancel()
        await turns()
        assert not host.done()
        released.set_result(None)
        await asyncio.wait([host])

        assert host.cancelled()
        assert log == ["clean"]

    async def test_gather_loses_what_their_cleanup_raises(self, caplog):
        """The caller gets its cancellation, and nobody the error."""
        children = [asyncio.create_task(forever()), asyncio.create_task(fail_when_cancelled(Boom()))]
        host = await start(asyncio.wait_for(asyncio.gather(*children), None))

        host.cancel()
        await asyncio.wait([host])
        await turns()

        assert host.cancelled()
        assert not children[1]._log_traceback, "asyncio would still report it"
        assert caplog.records == []

    async def test_task_group_raises_it_in_place_of_the_cancellation(self):
        """Code that goes on after errors then goes on after a stop, too."""
        host = await start(task_group(forever(), fail_when_cancelled(Boom())))

        host.cancel()
        await asyncio.wait([host])

        assert not host.cancelled()
        assert [type(error) for error in host.exception().exceptions] == [Boom]

    async def test_try_gather_logs_it_and_raises_the_cancellation(self, caplog):
        """A stop is a stop, and no error is lost."""
        host = await start(try_gather(forever(), fail_when_cancelled(Boom(), "saver")))

        host.cancel()
        await asyncio.wait([host])

        assert host.cancelled()
        assert messages(caplog) == [
            ("ERROR", "task 'saver' failed with Boom, not raised by try_gather: it ends otherwise"),
        ]

    async def test_gather_cancelled_after_its_failure_has_nothing_more_to_say(self):
        """It has been over since the error, so that a later cancellation does not reach the siblings."""
        log = []

        async def caller():
            with contextlib.suppress(Boom):
                await asyncio.gather(noting(log, "sibling", turns(20)), fail(Boom()))
            await forever()

        host = await start(caller())
        host.cancel()
        await asyncio.wait([host])
        await turns(20)

        assert log == [("sibling", "ended")]


class TestCounts:
    """What is left in the caller's `cancelling()` after a failure (gh-116720)."""

    @staticmethod
    async def count(call):
        """Let it fail in the middle of a task, which goes on."""

        async def host():
            with contextlib.suppress(Boom, ExceptionGroup):
                await call(forever(), after(turns(), Boom()))
            return asyncio.current_task().cancelling()

        return await asyncio.create_task(host())

    async def test_task_group_leaves_the_caller_marked_as_cancelled_before_3_13(self):
        """To whoever looks at the count, the task is then being stopped, for ever."""
        assert await self.count(task_group) == (1 if sys.version_info < (3, 13) else 0)

    @pytest.mark.parametrize("call", [asyncio.gather, try_gather])
    async def test_gather_and_try_gather_leave_it_alone(self, call):
        """They never cancel their caller."""
        assert await self.count(call) == 0
        # The sibling that gather has left behind.
        await cancel_and_wait(*(asyncio.all_tasks() - {asyncio.current_task()}))

    async def test_a_timeout_around_a_failed_task_group_may_not_fire_before_3_13(self):
        """What counts on the count is then wrong; around try_gather it is right."""
        fired = []

        async def host(call):
            async with asyncio.timeout(None) as timeout:
                with contextlib.suppress(Boom, ExceptionGroup):
                    await call(forever(), after(turns(), Boom()))
                timeout.reschedule(asyncio.get_running_loop().time())
                await forever()

        for call in (task_group, try_gather):
            task = await ended(host(call))
            fired.append(not task.cancelled() and isinstance(task.exception(), TimeoutError))

        assert fired == [sys.version_info >= (3, 13), True]


class TestRefusal:
    """An argument is wrong, or the group is closed."""

    async def test_gather_starts_what_comes_before_a_wrong_argument(self):
        """It runs although the call has failed, with nobody to wait for it."""
        log = []

        with pytest.raises(TypeError):
            await asyncio.gather(noting(log, "before", turns(1)), 5)

        await turns()
        assert log == [("before", "ended")]

    async def test_gather_forgets_what_comes_after_it(self, no_leaks):
        """One error becomes two: a coroutine that was never awaited."""
        with pytest.raises(TypeError):
            await asyncio.gather(5, give(1))

        assert forgotten(no_leaks) == ["coroutine 'give' was never awaited"]

    async def test_a_closed_task_group_forgets_the_coroutine_before_3_13(self, no_leaks):
        """There, refusing it comes with a warning (gh-115957)."""
        async with asyncio.TaskGroup() as group:
            pass

        with pytest.raises(RuntimeError):
            group.create_task(give(1))

        assert forgotten(no_leaks) == (["coroutine 'give' was never awaited"] if sys.version_info < (3, 13) else [])

    async def test_ours_start_nothing_and_forget_nothing(self):
        """A refusal is one error."""
        before, behind, late = give(1), give(2), give(3)

        with pytest.raises(TypeError):
            await try_gather(before, 5, behind)
        async with task_scope() as scope:
            pass
        with pytest.raises(RuntimeError):
            scope.launch(late)

        assert all(map(closed, [before, behind, late]))

    async def test_gather_of_the_current_task_waits_for_ever(self):
        """try_gather says so at once."""

        async def caller(call):
            await call(asyncio.current_task())

        waiting = await start(caller(asyncio.gather))
        assert not waiting.done()
        # Not by cancelling it: it would cancel itself, and that one itself, until the stack is full.
        waiting._fut_waiter.set_result([])
        await waiting

        message = "argument 1 of try_gather() is the current task, which cannot wait for itself"
        with refused(RuntimeError, message):
            await asyncio.create_task(caller(try_gather))


class TestStopping:
    """The usual lines that stop a task: ``task.cancel()``, then ``await task`` and forget the CancelledError."""

    @staticmethod
    async def stop(task):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def test_the_usual_lines_swallow_the_callers_own_cancellation(self):
        """It goes on as if nobody had stopped it (gh-103486)."""
        [released] = futures(1)
        task = await start(outlast(released))
        stopping = await start(self.stop(task))
        stopping.cancel()
        await turns()
        released.set_result(None)
        await asyncio.wait([stopping])

        assert not stopping.cancelled()

    async def test_the_usual_lines_cancel_the_task_twice(self):
        """The cancellation of the caller is passed on to what it awaits."""
        [released] = futures(1)
        task = await start(outlast(released))
        stopping = await start(self.stop(task))
        stopping.cancel()
        await turns()

        assert task.cancelling() == 2
        released.set_result(None)
        await asyncio.wait([stopping])

    async def test_cancel_and_wait_does_neither(self):
        """It waits, and is cancelled then."""
        [released] = futures(1)
        task = await start(outlast(released))
        stopping = await start(cancel_and_wait(task))
        stopping.cancel()
        await turns()
        assert not stopping.done()
        released.set_result(None)
        await asyncio.wait([stopping])

        assert stopping.cancelled()
        assert task.cancelling() == 1


@pytest.mark.virtual_time
class TestStuckTasks:
    """A child ignores its cancellation for a minute."""

    @staticmethod
    async def stubborn():
        try:
            await forever()
        finally:
            asyncio.current_task().set_name("stubborn")
            await asyncio.sleep(60)

    async def test_task_group_waits_in_silence(self, caplog, virtual_clock):
        """The program hangs, and nobody knows on what."""
        await ended(task_group(self.stubborn(), after(turns(), Boom())))

        assert virtual_clock.elapsed == 60
        assert caplog.records == []

    async def test_gather_does_not_wait_at_all(self, caplog, virtual_clock):
        """It never even cancels the child."""
        child = asyncio.create_task(self.stubborn())
        with pytest.raises(Boom):
            await asyncio.gather(child, fail(Boom()))

        assert virtual_clock.elapsed == 0
        assert not child.done()
        child.cancel()
        await asyncio.wait([child])
        assert caplog.records == []

    async def test_try_gather_names_it(self, caplog, virtual_clock):
        """And waits as well."""
        with pytest.raises(Boom):
            await try_gather(self.stubborn(), after(turns(), Boom()))

        assert virtual_clock.elapsed == 60
        starts = [message.split(" parked ")[0] for _, message in messages(caplog)]
        assert starts == [
            "try_gather still waits for 1 cancelled task after 5.0 s: 'stubborn'",
            "try_gather still waits for 1 cancelled task after 15.0 s: 'stubborn'",
            "try_gather still waits for 1 cancelled task after 35.0 s: 'stubborn'",
        ]


class TestIndependentChildren:
    """A child of a block fails, and the others have nothing to do with it."""

    async def test_task_group_stops_the_others_and_the_block(self, caplog):
        """And says why only at the end."""
        log = []

        async def host():
            async with asyncio.TaskGroup() as group:
                group.create_task(noting(log, "other", forever()))
                group.create_task(after(turns(), Boom()))
                await noting(log, "block", forever())

        await ended(host())

        assert sorted(log) == [
            ("block", "CancelledError"),
            ("block", "ended"),
            ("other", "CancelledError"),
            ("other", "ended"),
        ]
        assert caplog.records == []

    async def test_task_scope_reports_it_at_once_and_goes_on(self, caplog):
        """The block and the other child do not notice."""
        log = []
        async with task_scope() as scope:
            scope.launch(noting(log, "other", turns(5)))
            scope.launch(fail(Boom()), name="failing")
            await turns(2)
            [(level, message)] = messages(caplog)
            await scope.wait(return_when=asyncio.ALL_COMPLETED)

        assert (level, message.split(",")[0]) == ("ERROR", "task 'failing' failed with Boom")
        assert log == [("other", "ended")]
        assert len(caplog.records) == 1


class TestLimit:
    """A hundred downloads, ten at a time."""

    async def test_gather_with_a_semaphore_makes_a_task_of_each_at_once(self):
        """They all wait, and a failure leaves ninety of them to run their turn."""
        started = []
        places = asyncio.Semaphore(10)

        async def download(number):
            async with places:
                started.append(number)
                await turns(1)
                if number == 0:
                    raise Boom

        before = len(asyncio.all_tasks())
        gathering = asyncio.gather(*map(download, range(100)))
        most = len(asyncio.all_tasks()) - before
        with pytest.raises(Boom):
            await gathering
        await turns(100)

        assert most >= 99  # an eager one may be done already
        assert len(started) == 100

    async def test_try_gather_makes_a_task_of_those_that_run(self):
        """And a failure keeps the others from starting."""
        started = []
        most = 0
        before = len(asyncio.all_tasks())

        async def download(number):
            nonlocal most
            started.append(number)
            most = max(most, len(asyncio.all_tasks()) - before)
            await turns(1)
            if number == 0:
                raise Boom

        with pytest.raises(Boom):
            await try_gather(*map(download, range(100)), limit=10)

        assert most <= 10
        assert len(started) < 30
