"""The end of a `task_scope`: drain, cancel once, wait for all, then raise what is due.

When its host is cancelled: test_scope_cancelled.py. Blocks that are closed rather than left: test_scope_closing.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback

import pytest
from tools import (
    Bang,
    Boom,
    after,
    closed,
    facts_of,
    fail_when_cancelled,
    forever,
    futures,
    give,
    here,
    messages,
    no_garbage,
    noting,
    outlast,
    refused,
    start,
    turns,
)

from async_plus import StuckTask, StuckTasks, TaskFailed, ignore, stacks, subscribe, task_scope
from async_plus.testing import record_events


async def clean_up(log, name, seconds):
    """Take *seconds* to stop."""
    try:
        await forever()
    finally:
        await noting(log, name, asyncio.sleep(seconds))


class TestEnd:
    async def test_live_tasks_are_cancelled_once_and_waited_for(self):
        """Whatever their cleanup takes, it is over when the block is."""
        log, going = [], futures(2)

        async def child(number):
            try:
                await forever()
            finally:
                await noting(log, number, going[number])

        async def host():
            async with task_scope() as scope:
                tasks.extend([scope.launch(child(0)), scope.launch(child(1))])
                await turns(2)
            log.append("left")

        tasks = []
        leaving = await start(host())
        going[1].set_result(None)
        await turns()
        assert log == [(1, "ended")]
        going[0].set_result(None)
        await leaving

        assert log == [(1, "ended"), (0, "ended"), "left"]
        assert [task.cancelling() for task in tasks] == [1, 1]

    async def test_nothing_is_waited_for_without_tasks(self):
        """An empty scope, or one whose tasks are done, is left without a step of the loop."""
        steps = []
        async with task_scope() as scope:
            await scope.launch(give(1))
            await turns()
            asyncio.get_running_loop().call_soon(steps.append, 1)
        async with task_scope():
            pass

        assert steps == []

    async def test_a_task_is_cancelled_even_before_its_first_step(self):
        """Unless it is eager it never runs then, and is not warned of as never awaited."""
        coro = forever()

        async with task_scope() as scope:
            task = scope.launch(coro)

        assert task.cancelled()
        assert closed(coro)

    async def test_the_result_of_the_body_is_not_touched(self):
        """A return from within the block works, after the cleanup."""
        log = []

        async def host():
            async with task_scope() as scope:
                scope.launch(noting(log, "child", forever()))
                await turns()
                return 5

        assert await host() == 5
        assert log == [("child", "CancelledError"), ("child", "ended")]

    @pytest.mark.parametrize(
        "error", [Boom(), ExceptionGroup("", [Boom()]), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]
    )
    async def test_the_bodys_exception_goes_on_as_it_was(self, error, caplog):
        """The same object, in no group, without a context of ours; the tasks have stopped by then."""
        log = []
        error.__traceback__ = error.__context__ = None

        async def host():
            async with task_scope() as scope:
                scope.launch(noting(log, "child", forever()))
                await turns()
                raise error

        with pytest.raises(type(error)) as caught:
            await host()

        assert caught.value is error
        assert error.__context__ is None
        assert error.__cause__ is None
        assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][1:] == ["host"]
        assert log == [("child", "CancelledError"), ("child", "ended")]
        assert asyncio.current_task().cancelling() == 0
        assert caplog.records == []

    async def test_an_error_in_the_cleanup_of_a_task_is_reported_and_not_raised(self, caplog):
        """As any failure of a child: it concerns neither the siblings nor the body."""
        async with task_scope() as scope:
            site = here(+1)
            task = scope.launch(fail_when_cancelled(Boom()), "feed")
            await turns()

        [record] = caplog.records
        assert record.getMessage() == "task 'feed' failed with Boom, launched at {}:{} in {}".format(*site)
        assert record.exc_info[1] is task.exception()

    async def test_an_error_in_the_cleanup_of_a_task_leaves_the_bodys_alone(self, caplog):
        """The body's own is raised."""

        async def host():
            async with task_scope() as scope:
                scope.launch(fail_when_cancelled(Boom()))
                await turns()
                raise Bang

        with pytest.raises(Bang) as caught:
            await host()

        assert caught.value.__context__ is None
        assert [facts_of(record)["exception"] for record in caplog.records] == ["Boom"]

    async def test_a_task_that_swallows_its_cancellation_is_waited_for(self, caplog):
        """It ends when it likes, with a value."""
        [released] = futures(1)

        async def host():
            async with task_scope() as scope:
                tasks.append(scope.launch(outlast(released)))
                await turns(2)

        tasks = []
        leaving = await start(host())
        assert not leaving.done()
        released.set_result(5)
        await leaving

        assert tasks[0].result() == 5
        assert caplog.records == []

    async def test_launching_in_a_cleanup_is_refused(self, caplog):
        """The coroutine is closed; unless the child deals with it, the refusal is its failure."""
        late = [forever(), forever()]

        async def child():
            try:
                await forever()
            finally:
                with refused(RuntimeError, "cannot launch into a closed task_scope: its block has ended"):
                    scope.launch(late[0])
                scope.launch(late[1])

        async with task_scope() as scope:
            scope.launch(child(), "child")
            await turns()

        assert all(map(closed, late))
        assert [facts_of(record)["exception"] for record in caplog.records] == ["RuntimeError"]

    async def test_launching_in_a_handler_at_the_end_is_refused(self, caplog):
        """The handler fails then, and both failures are logged."""
        late = forever()

        async with task_scope(lambda task, exc: scope.launch(late)) as scope:
            scope.launch(fail_when_cancelled(Boom()), "child")
            await turns()

        assert closed(late)
        assert [facts_of(record)["exception"] for record in caplog.records] == ["Boom", "RuntimeError"]
        assert str(caplog.records[1].exc_info[1]) == "cannot launch into a closed task_scope: its block has ended"

    async def test_a_body_that_fails_leaves_no_reference_cycle(self):
        """Neither its exception nor the tasks outlive the block (gh-124958, gh-128552)."""

        async def host():
            async with task_scope(ignore) as scope:
                scope.launch(forever())
                await turns()
                raise Boom

        async def outer():
            try:
                await host()
            except Boom:
                pass

        with no_garbage():
            await asyncio.create_task(outer())


@pytest.mark.virtual_time
class TestDrain:
    async def test_tasks_get_time_to_finish_by_themselves(self, virtual_clock):
        """No longer than they need."""
        log = []

        async with task_scope(drain=10) as scope:
            scope.launch(noting(log, "slow", asyncio.sleep(5)))
            scope.launch(noting(log, "quick", asyncio.sleep(1)))

        assert log == [("quick", "ended"), ("slow", "ended")]
        assert virtual_clock.elapsed == 5

    async def test_what_still_runs_afterwards_is_cancelled(self, virtual_clock):
        """The seconds are those of the whole scope, not of each task."""
        log = []

        async with task_scope(drain=10) as scope:
            scope.launch(noting(log, "slow", asyncio.sleep(11)))
            scope.launch(noting(log, "quick", asyncio.sleep(9)))

        assert log == [("quick", "ended"), ("slow", "CancelledError"), ("slow", "ended")]
        assert virtual_clock.elapsed == 10

    async def test_it_is_over_when_the_loop_was_blocked_beyond_its_end(self, virtual_clock):
        """The time is up then, and more than up."""
        asyncio.get_running_loop().call_later(4, lambda: virtual_clock.jump(virtual_clock.time() + 20))

        async with task_scope(drain=10) as scope:
            task = scope.launch(asyncio.sleep(60))

        assert task.cancelled()
        assert virtual_clock.elapsed == 24

    async def test_there_is_none_by_default(self, virtual_clock):
        """The block ends when its last line has run."""
        async with task_scope() as scope:
            task = scope.launch(asyncio.sleep(1))

        assert task.cancelled()
        assert virtual_clock.elapsed == 0

    async def test_tasks_may_launch_others_meanwhile(self, virtual_clock):
        """They belong to the scope and share the time that is left."""
        log = []

        async def child():
            await asyncio.sleep(4)
            scope.launch(noting(log, "second", asyncio.sleep(4)))
            scope.launch(noting(log, "third", asyncio.sleep(7)))

        async with task_scope(drain=10) as scope:
            scope.launch(noting(log, "first", child()))

        assert log == [("first", "ended"), ("second", "ended"), ("third", "CancelledError"), ("third", "ended")]
        assert virtual_clock.elapsed == 10

    async def test_a_handler_may_launch_the_next_attempt_meanwhile(self, virtual_clock):
        """A restart by hand goes on until the time is over."""
        attempts = []

        async def service():
            attempts.append(virtual_clock.elapsed)
            await asyncio.sleep(3)
            raise Boom

        async with task_scope(lambda task, exc: scope.launch(service()), drain=10) as scope:
            scope.launch(service())

        assert attempts == [0, 3, 6, 9]
        assert virtual_clock.elapsed == 10

    async def test_a_task_launched_because_the_last_one_ended_gets_the_time_that_is_left(self, virtual_clock):
        """Whoever waits for the last one learns of its end no sooner than the scope itself."""
        log = []

        async with task_scope(drain=10) as scope:
            last = scope.launch(asyncio.sleep(4))
            last.add_done_callback(lambda _: scope.launch(noting(log, "next", asyncio.sleep(4))))

        assert log == [("next", "ended")]
        assert virtual_clock.elapsed == 8

    async def test_it_is_skipped_when_the_body_failed(self, virtual_clock):
        """Then the tasks are cancelled at once."""
        tasks = []

        async def host():
            async with task_scope(drain=10) as scope:
                tasks.append(scope.launch(asyncio.sleep(1)))
                raise Boom

        with pytest.raises(Boom):
            await host()

        assert tasks[0].cancelled()
        assert virtual_clock.elapsed == 0

    async def test_it_is_skipped_when_the_body_was_cancelled(self, virtual_clock):
        """Whoever cancels does not want to wait for the work."""

        async def host():
            async with task_scope(drain=10) as scope:
                tasks.append(scope.launch(asyncio.sleep(1)))
                await forever()

        tasks = []
        task = await start(host())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert tasks[0].cancelled()
        assert virtual_clock.elapsed == 0

    async def test_it_ends_when_the_caller_is_cancelled(self, virtual_clock):
        """The tasks are cancelled then, and waited for."""
        log = []

        async def host():
            async with task_scope(drain=10) as scope:
                scope.launch(clean_up(log, "child", 2))

        task = await start(host())
        await asyncio.sleep(3)
        task.cancel("by me")
        with pytest.raises(asyncio.CancelledError, match="by me"):
            await task

        assert log == [("child", "ended")]
        assert task.cancelling() == 1
        assert virtual_clock.elapsed == 5

    async def test_it_ends_when_a_timeout_around_the_scope_expires(self, virtual_clock):
        """`asyncio.timeout` gets its cancellation and makes a TimeoutError of it."""
        log = []

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3), task_scope(drain=10) as scope:
                scope.launch(clean_up(log, "child", 2))

        assert log == [("child", "ended")]
        assert asyncio.current_task().cancelling() == 0
        assert virtual_clock.elapsed == 5

    async def test_it_may_be_cut_short_by_cancelling_the_scope(self, virtual_clock):
        """The tasks stop, and with them the waiting."""
        async with task_scope(drain=10) as scope:
            task = scope.launch(asyncio.sleep(20))
            asyncio.get_running_loop().call_later(3, scope.cancel)

        assert task.cancelled()
        assert virtual_clock.elapsed == 3

    async def test_a_task_may_wait_for_its_own_scope_meanwhile(self, virtual_clock):
        """It is free when the others have ended."""
        async with task_scope(drain=10) as scope:
            scope.launch(asyncio.sleep(4))
            task = scope.launch(scope.wait())

        assert not task.cancelled()
        assert virtual_clock.elapsed == 4


@pytest.mark.virtual_time
class TestStuck:
    async def test_a_task_that_ignores_its_cancellation_is_named_with_where_it_is_parked(self, caplog, virtual_clock):
        """After *warn_after* seconds, and again at doubling gaps; it is waited for as long as it takes."""
        seen, [released] = [], futures(1)
        unsubscribe = subscribe(lambda event: seen.append((virtual_clock.elapsed, event)))
        site = here(+1)
        async with task_scope(warn_after=2) as scope:
            task = scope.launch(outlast(released), "stubborn")
            scope.launch(forever(), "obedient")
            await asyncio.sleep(1)
            asyncio.get_running_loop().call_later(20, released.set_result, None)
        unsubscribe()

        place = "{}:{} in {}".format(*site)
        assert [when for when, _ in seen] == [3, 7, 15]
        parked = seen[0][1].tasks[0].parked
        assert (parked.place.function, parked.on) == ("outlast", "wait for Future")
        assert [event for _, event in seen] == [
            StuckTasks(owner=f"task_scope at {place}", after=after, tasks=(StuckTask("stubborn", parked),))
            for after in (2, 6, 14)
        ]
        who = f"task_scope at {place} still waits for 1 cancelled task"
        assert messages(caplog) == [
            ("WARNING", f"{who} after 2.0 s: 'stubborn' parked {parked}"),
            ("WARNING", f"{who} after 6.0 s: 'stubborn' parked {parked}"),
            ("WARNING", f"{who} after 14.0 s: 'stubborn' parked {parked}"),
        ]
        assert facts_of(caplog.records[0])["event"] == "StuckTasks"
        assert virtual_clock.elapsed == 21
        assert task.cancelling() == 1

    async def test_it_is_after_five_seconds_by_default(self, caplog):
        """And a scope with a name is told by its name, which says more than a line."""
        [released] = futures(1)

        async with task_scope(name="feeds") as scope:
            scope.launch(outlast(released), "stubborn")
            await asyncio.sleep(0.001)
            asyncio.get_running_loop().call_later(6, released.set_result, None)

        [record] = caplog.records
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith(
            "task_scope 'feeds' still waits for 1 cancelled task after 5.0 s: 'stubborn' parked at "
        )

    async def test_a_quick_end_is_not_worth_a_word(self, caplog):
        """Cleanups take their time."""
        log = []

        async with task_scope() as scope:
            scope.launch(clean_up(log, "child", 4.9))
            await asyncio.sleep(0.001)

        assert log == [("child", "ended")]
        assert caplog.records == []

    async def test_the_time_begins_with_the_cancellation_of_the_scope(self, caplog, virtual_clock):
        """`cancel()` has the same consequences as the end of the block, which does not start the time anew."""
        seen, [released] = [], futures(1)
        unsubscribe = subscribe(lambda event: seen.append((virtual_clock.elapsed, event.after)))

        async with task_scope() as scope:
            scope.launch(outlast(released))
            await asyncio.sleep(1)
            scope.cancel()
            await asyncio.sleep(3)
            asyncio.get_running_loop().call_later(9, released.set_result, None)
        unsubscribe()

        assert seen == [(6, 5)]

    async def test_those_who_wait_are_parked_on_the_tasks_of_the_scope(self):
        """Who hangs in an exit or in a `wait` is seen to wait for these tasks, by name."""
        [released] = futures(1)

        async def leave(scope):
            async with scope:
                scope.launch(outlast(released), "stubborn")
                await turns(2)

        scope = task_scope(name="feeds")
        leaving = await start(leave(scope))
        waiting = await start(scope.wait())
        parked = [stacks.parked(leaving).on, stacks.parked(waiting).on]
        released.set_result(None)
        await asyncio.wait([leaving, waiting])

        assert parked == ["task_scope 'feeds' of 'stubborn'"] * 2

    async def test_a_scope_without_a_name_is_told_by_the_line_where_it_was_made(self):
        """That is the line of the ``async with``, as a rule."""
        site = here(+1)
        async with task_scope() as scope:
            scope.launch(forever(), "child")
            task = await start(scope.wait())

            place = "{}:{} in {}".format(*site)
            assert stacks.parked(task).on == f"task_scope at {place} of 'child'"
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


class TestReportsAtTheEnd:
    async def test_all_failures_have_been_reported_when_the_block_is_left(self):
        """Those of the cleanup too."""
        with record_events() as events:
            async with task_scope() as scope:
                tasks = [scope.launch(fail_when_cancelled(Boom())), scope.launch(fail_when_cancelled(Bang()))]
                await turns()

            assert [type(event) for event in events] == [TaskFailed] * 2
            assert {event.exception for event in events} == {task.exception() for task in tasks}

    async def test_a_failure_just_before_the_end_is_reported_as_a_failure(self, caplog):
        """Even though its end was not noticed yet when the block was left."""
        [go] = futures(1)

        async with task_scope() as scope:
            task = scope.launch(after(go, Boom()))
            await turns()
            go.set_result(None)
            with contextlib.suppress(Boom):
                await task

        assert [facts_of(record)["exception"] for record in caplog.records] == ["Boom"]
        assert task.cancelling() == 0
