"""`task_scope.wait`: what it waits for, and what happened since the previous one.

In the tasks of the scope itself: test_scope_wait_children.py. Against a model: test_scope_model.py.
"""

from __future__ import annotations

import asyncio
import inspect

import pytest
from loops import each_loop
from tools import Bang, Boom, after, fail, forever, futures, give, no_garbage, noting, outlast, refused, start, turns

from async_plus import ignore, task_scope

FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED = (
    asyncio.FIRST_COMPLETED,
    asyncio.FIRST_EXCEPTION,
    asyncio.ALL_COMPLETED,
)

any_kind = pytest.mark.parametrize("return_when", [FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED])
first_kinds = pytest.mark.parametrize(
    ("return_when", "event"), [(FIRST_COMPLETED, None), (FIRST_COMPLETED, Boom()), (FIRST_EXCEPTION, Boom())]
)


async def leave(scope):
    """Stop what still runs, so that the end of the block need not."""
    scope.cancel()
    await turns()


class TestKinds:
    def test_it_waits_for_the_first_exception_by_default(self):
        """And for any time."""
        assert str(inspect.signature(task_scope.wait)) == (
            "(self, timeout: 'float | None' = None, return_when: 'str' = 'FIRST_EXCEPTION') -> 'None'"
        )

    @any_kind
    async def test_it_returns_none_at_once_if_there_are_no_tasks(self, return_when):
        """Without a step of the loop, be the scope new, empty again or closed."""
        steps = []

        async with task_scope() as scope:
            asyncio.get_running_loop().call_soon(steps.append, 1)
            assert await scope.wait(return_when=return_when) is None
            assert steps == []

            await scope.launch(give(1))
            await turns()
            await scope.wait(return_when=return_when)
            asyncio.get_running_loop().call_soon(steps.append, 2)
            await scope.wait(return_when=return_when)
            assert steps == [1]
        await scope.wait(0, return_when)
        assert steps == [1]

    @any_kind
    async def test_it_returns_when_all_are_done(self, return_when):
        """One that was cancelled is done as well."""
        go = futures(2)

        async with task_scope() as scope:
            tasks = [scope.launch(after(go[0])), scope.launch(after(go[1])), scope.launch(forever())]
            waiting = await start(scope.wait(return_when=return_when))

            go[0].set_result(None)
            await turns()
            assert waiting.done() == (return_when == FIRST_COMPLETED)
            tasks[2].cancel()
            await turns()
            assert waiting.done() == (return_when == FIRST_COMPLETED)
            go[1].set_result(None)
            assert await waiting is None

    @any_kind
    async def test_a_failure_is_never_raised(self, return_when):
        """It returns at the first one, unless it waits for all; the others go on."""
        [go] = futures(1)

        async with task_scope(ignore) as scope:
            scope.launch(after(go, Boom()))
            other = scope.launch(forever())
            waiting = await start(scope.wait(return_when=return_when))
            assert not waiting.done()

            go.set_result(None)
            await turns()
            assert waiting.done() == (return_when != ALL_COMPLETED)
            assert not other.done()
            await leave(scope)
            await waiting

    async def test_a_cancelled_task_is_no_failure(self):
        """Whether somebody requested that or nobody did."""

        async def stop_itself():
            raise asyncio.CancelledError

        async with task_scope() as scope:
            scope.launch(stop_itself())
            task = scope.launch(forever())
            scope.launch(forever())
            waiting = await start(scope.wait())
            task.cancel()
            await turns()
            assert not waiting.done()
            await leave(scope)
            await waiting

    async def test_the_failure_has_been_handled_when_it_returns(self):
        """The handler has run, or the log been written."""
        seen = []

        async with task_scope(lambda task, exc: seen.append(exc)) as scope:
            scope.launch(fail(Boom()))
            await scope.wait()
            assert len(seen) == 1

    async def test_all_includes_tasks_launched_meanwhile(self):
        """By a child, by a handler, or by whoever sees the last one end."""
        log = []

        async def child():
            await asyncio.sleep(0)
            scope.launch(noting(log, "by a child", fail_later()), on_exception=handler)

        async def fail_later():
            await asyncio.sleep(0)
            raise Boom

        def handler(task, exc):
            task = scope.launch(noting(log, "by a handler", turns()))
            task.add_done_callback(lambda _: scope.launch(noting(log, "by a callback", turns())))

        async with task_scope() as scope:
            scope.launch(child())
            await scope.wait(return_when=ALL_COMPLETED)
            assert log == [
                ("by a child", "Boom"),
                ("by a child", "ended"),
                ("by a handler", "ended"),
                ("by a callback", "ended"),
            ]

    async def test_the_first_exception_of_a_task_launched_meanwhile_counts(self):
        """The set of tasks is not fixed at the call."""
        async with task_scope(ignore) as scope:
            scope.launch(forever())
            waiting = await start(scope.wait())
            scope.launch(fail(Boom()))
            await waiting
            await leave(scope)

    async def test_anyone_may_wait_and_all_are_woken(self):
        """One event, several waiters."""
        [go] = futures(1)

        async with task_scope(ignore) as scope:
            scope.launch(after(go, Boom()))
            scope.launch(forever())
            waiting = [await start(scope.wait(return_when=kind)) for kind in (FIRST_COMPLETED, FIRST_EXCEPTION) * 2]
            go.set_result(None)
            await asyncio.gather(*waiting)
            await leave(scope)


class TestCursor:
    @first_kinds
    async def test_what_happened_before_the_first_wait_counts(self, return_when, event):
        """An early end is not missed."""
        async with task_scope(ignore) as scope:
            scope.launch(after(asyncio.sleep(0), event))
            scope.launch(forever())
            await turns()

            await scope.wait(return_when=return_when)
            await leave(scope)

    @first_kinds
    async def test_what_happened_between_two_waits_counts(self, return_when, event):
        """Nothing needs to be awaited in time."""
        async with task_scope(ignore) as scope:
            scope.launch(forever())
            for _ in range(3):
                scope.launch(after(asyncio.sleep(0), event))
                await turns()
                await scope.wait(return_when=return_when)
            await leave(scope)

    @first_kinds
    async def test_what_a_wait_has_told_is_not_told_again(self, return_when, event):
        """However much it was."""
        async with task_scope(ignore) as scope:
            for _ in range(3):
                scope.launch(after(asyncio.sleep(0), event))
            scope.launch(forever())
            await turns()
            await scope.wait(return_when=return_when)

            waiting = await start(scope.wait(return_when=return_when))
            assert not waiting.done()
            await leave(scope)
            await waiting

    async def test_asyncio_wait_tells_it_again_and_again(self):
        """The same with `asyncio.wait`: to go on, one must keep sets of one's own and take out what is done."""
        tasks = {asyncio.create_task(fail(Boom())), asyncio.create_task(forever())}

        for _ in range(3):
            done, pending = await asyncio.wait(tasks, return_when=FIRST_EXCEPTION)
            assert (len(done), len(pending)) == (1, 1)

        done.pop().exception()
        pending.pop().cancel()
        await turns()

    @pytest.mark.parametrize("second", [FIRST_COMPLETED, FIRST_EXCEPTION])
    @any_kind
    async def test_a_wait_of_any_kind_counts(self, return_when, second):
        """The cursor is where the previous wait, of whatever kind, returned."""
        async with task_scope(ignore) as scope:
            scope.launch(fail(Boom()))
            await turns()
            await scope.wait(return_when=return_when)

            scope.launch(forever())
            waiting = await start(scope.wait(return_when=second))
            assert not waiting.done()
            await leave(scope)
            await waiting

    async def test_a_wait_of_another_task_counts(self):
        """The cursor belongs to the scope."""
        async with task_scope(ignore) as scope:
            scope.launch(fail(Boom()))
            scope.launch(forever())
            await turns()
            await asyncio.create_task(scope.wait())

            waiting = await start(scope.wait())
            assert not waiting.done()
            await leave(scope)
            await waiting

    async def test_a_first_completed_is_told_although_a_failure_is_awaited_later(self):
        """A success ends the one kind of wait, not the other."""
        [go] = futures(1)

        async with task_scope(ignore) as scope:
            scope.launch(give(1))
            scope.launch(after(go, Boom()))
            await scope.wait(return_when=FIRST_COMPLETED)
            waiting = await start(scope.wait(return_when=FIRST_EXCEPTION))
            assert not waiting.done()
            go.set_result(None)
            await waiting

    @pytest.mark.virtual_time
    @first_kinds
    async def test_a_wait_that_timed_out_does_not_count(self, return_when, event):
        """What happened during it is still to be told."""
        [go] = futures(1)

        async with task_scope(ignore) as scope:
            if return_when == FIRST_COMPLETED:
                kind = FIRST_EXCEPTION if event is None else ALL_COMPLETED
            else:
                kind = ALL_COMPLETED
            scope.launch(after(go, event))
            scope.launch(forever())
            asyncio.get_running_loop().call_later(1, go.set_result, None)
            with pytest.raises(TimeoutError):
                await scope.wait(2, kind)

            await scope.wait(0, return_when)
            await leave(scope)

    @first_kinds
    async def test_a_wait_that_was_cancelled_does_not_count(self, return_when, event):
        """Even if it was cancelled in the same moment in which it was over."""
        [go] = futures(1)

        async with task_scope(ignore) as scope:
            child = scope.launch(after(go, event))
            scope.launch(forever())
            waiting = await start(scope.wait(return_when=return_when))
            child.add_done_callback(lambda _: waiting.cancel())
            go.set_result(None)
            with pytest.raises(asyncio.CancelledError):
                await waiting

            await scope.wait(return_when=return_when)
            await leave(scope)


@pytest.mark.virtual_time
class TestTimeout:
    @any_kind
    async def test_it_raises_a_timeout_error_and_cancels_nothing(self, return_when, virtual_clock):
        """The message tells how many still run and how long it has waited."""
        async with task_scope() as scope:
            tasks = [scope.launch(forever()), scope.launch(forever())]

            with refused(TimeoutError, "2 tasks of the task_scope still running after 3 s"):
                await scope.wait(3, return_when)

            assert virtual_clock.elapsed == 3
            assert not any(task.done() or task.cancelling() for task in tasks)
            await leave(scope)

    @any_kind
    async def test_a_timeout_of_zero_is_the_shortest(self, return_when, virtual_clock):
        """What is over already is not late; the rest is."""
        async with task_scope() as scope:
            await scope.wait(0, return_when)
            scope.launch(forever())
            with refused(TimeoutError, "1 task of the task_scope still running after 0 s"):
                await scope.wait(0, return_when)
            await leave(scope)

        assert virtual_clock.elapsed == 0

    @any_kind
    async def test_a_wait_that_is_over_in_time_leaves_no_timer(self, return_when, virtual_clock):
        """Time goes no further than the task did."""
        async with task_scope() as scope:
            scope.launch(asyncio.sleep(2))
            await scope.wait(3, return_when)

        await asyncio.sleep(10)
        assert virtual_clock.elapsed == 12

    @any_kind
    async def test_an_end_in_the_same_moment_is_in_time(self, return_when):
        """Here the time is over first, but before that is told the task has ended as well."""
        async with task_scope() as scope:
            [go] = futures(1)
            scope.launch(after(go))
            await turns()
            go.set_result(None)

            await scope.wait(0, return_when)

    async def test_it_holds_although_others_are_launched_when_the_last_one_has_ended(self, virtual_clock):
        """A wait for all then goes on, and so does its time."""
        async with task_scope() as scope:
            last = scope.launch(asyncio.sleep(1))
            last.add_done_callback(lambda _: scope.launch(forever()))

            with refused(TimeoutError, "1 task of the task_scope still running after 3 s"):
                await scope.wait(3, ALL_COMPLETED)

            assert virtual_clock.elapsed == 3
            await leave(scope)

    async def test_it_holds_if_it_passes_just_when_others_are_launched(self):
        """Nothing would wake the wait a second time, so it must not sleep again."""
        async with task_scope() as scope:
            [go] = futures(1)
            last = scope.launch(after(go))
            last.add_done_callback(lambda _: scope.launch(forever()))
            await turns()
            go.set_result(None)

            with refused(TimeoutError, "1 task of the task_scope still running after 0 s"):
                await scope.wait(0, ALL_COMPLETED)

            await leave(scope)

    async def test_an_infinite_one_is_left_out(self):
        """None is the word for it."""
        async with task_scope() as scope:
            with refused(ValueError, "timeout must be a finite number of seconds >= 0, got inf"):
                await scope.wait(float("inf"))


class TestEnd:
    async def test_those_who_are_free_to_go_on_hold_up_nobody(self):
        """Two tasks end in the same turn of the loop: the first one frees some of those who wait, the other one all."""
        [released] = futures(1)
        async with task_scope() as scope:
            scope.launch(after(released))
            scope.launch(after(released))
            # Many, since it depends on their order, in which nothing is promised.
            kinds = [FIRST_COMPLETED, ALL_COMPLETED] * 10
            waiting = [asyncio.create_task(scope.wait(return_when=kind)) for kind in kinds]
            await turns()

            released.set_result(None)
            await turns()

            assert all(task.done() for task in waiting)

    async def test_a_cancelled_waiter_leaves_the_tasks_alone(self):
        """It is only a wait."""
        async with task_scope() as scope:
            task = scope.launch(forever())
            waiting = await start(scope.wait())
            waiting.cancel()
            await turns()

            assert waiting.cancelled()
            assert (task.done(), task.cancelling()) == (False, 0)
            await leave(scope)

    @any_kind
    async def test_the_end_of_the_block_frees_strangers_who_wait(self, return_when):
        """When all have stopped, or the first one has."""
        [released] = futures(1)

        async def host(scope):
            async with scope:
                scope.launch(outlast(released))
                await turns(2)

        scope = task_scope()
        leaving = await start(host(scope))
        waiting = await start(scope.wait(return_when=return_when))
        assert not waiting.done()
        released.set_result(None)
        await asyncio.gather(leaving, waiting)

    async def test_nothing_is_kept_of_tasks_and_waits(self):
        """Of those that are over the scope has only noted that there were some (gh-124958)."""

        async def crash():
            await asyncio.sleep(0)
            raise Bang

        async with task_scope(ignore) as scope:
            with no_garbage():
                for _ in range(3):
                    scope.launch(crash())
                    scope.launch(give(1))
                    await scope.wait(1000, ALL_COMPLETED)
            assert not scope._children._live
            assert not scope._children._waiters

    async def test_a_task_that_was_cancelled_in_its_wait_is_in_no_reference_cycle(self):
        """It leads to the frames of the wait by its CancelledError, which nobody need ask for."""
        async with task_scope() as scope:
            scope.launch(forever())
            with no_garbage():
                waiting = await start(scope.wait())
                waiting.cancel()
                await turns()
                del waiting


class TestMisuse:
    @pytest.mark.parametrize(
        ("options", "kind", "message"),
        [
            ({"timeout": -1}, ValueError, "timeout must be a finite number of seconds >= 0, got -1"),
            ({"timeout": float("nan")}, ValueError, "timeout must be a finite number of seconds >= 0, got nan"),
            ({"timeout": "5"}, TypeError, "timeout must be a number of seconds, got str"),
            ({"timeout": True}, TypeError, "timeout must be a number of seconds, got bool True"),
            (
                {"return_when": "SOME_COMPLETED"},
                ValueError,
                "return_when must be one of 'FIRST_COMPLETED', 'FIRST_EXCEPTION', 'ALL_COMPLETED', "
                "got 'SOME_COMPLETED'",
            ),
            (
                {"return_when": None},
                ValueError,
                "return_when must be one of 'FIRST_COMPLETED', 'FIRST_EXCEPTION', 'ALL_COMPLETED', got NoneType",
            ),
        ],
    )
    async def test_bad_arguments_are_refused(self, options, kind, message):
        """By name, with the value, even if there is nothing to wait for."""
        async with task_scope() as scope:
            with refused(kind, message):
                await scope.wait(**options)

    async def test_it_is_refused_before_the_entry(self):
        """There could be no task yet, and there will never be one."""
        with refused(
            RuntimeError, "cannot wait before the task_scope is entered: use 'async with task_scope() as scope'"
        ):
            await task_scope().wait()

    @each_loop
    def test_it_is_refused_on_another_loop(self, loop_factory):
        """Its tasks would wake nobody there."""
        scope = task_scope()

        async def wait():
            with refused(RuntimeError, "cannot wait from outside the task_scope's loop"):
                await scope.wait()

        with asyncio.Runner(loop_factory=loop_factory) as first, asyncio.Runner(loop_factory=loop_factory) as second:
            first.run(scope.__aenter__())
            second.run(wait())
            first.run(scope.__aexit__(None, None, None))
