"""A `task_scope` that is closed rather than left: generators, exit stacks, `close()`, the garbage collector."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys

import pytest
from loops import each_loop
from tools import Boom, forever, futures, noting, outlast, refused, start, turns

from async_plus import task_scope

STOPPED = [("child", "CancelledError"), ("child", "ended")]


async def ticks(log, scope):
    """A generator that holds a scope."""
    async with scope:
        scope.launch(noting(log, "child", forever()), "child")
        await turns(2)
        yield 1
        yield 2


class TestAsyncGenerator:
    async def test_a_generator_may_run_to_its_end(self):
        """The tasks run while it is suspended, and stop when it ends."""
        log, scope = [], task_scope()

        assert [number async for number in ticks(log, scope)] == [1, 2]

        assert log == STOPPED
        assert repr(scope) == "<task_scope closed, tasks=0>"

    async def test_a_generator_that_is_closed_waits_for_its_tasks(self):
        """``aclose()`` may await, so nothing is left running."""
        log, scope, [released] = [], task_scope(), futures(1)

        generator = ticks(log, scope)
        await anext(generator)
        scope.launch(noting(log, "stubborn", outlast(released)))
        await turns()
        closing = await start(generator.aclose())
        assert log == STOPPED
        assert not closing.done()
        released.set_result(None)
        await closing

        assert log == [*STOPPED, ("stubborn", "ended")]

    async def test_a_generator_that_is_closed_does_not_drain(self):
        """It was not left in the normal way."""
        log, scope = [], task_scope(drain=1000)

        async with contextlib.aclosing(ticks(log, scope)) as generator:
            await anext(generator)

        assert log == STOPPED

    async def test_a_cancellation_while_it_is_closed_wins(self):
        """It comes out of ``aclose()`` when the tasks have stopped."""
        log, scope, [released] = [], task_scope(), futures(1)

        generator = ticks(log, scope)
        await anext(generator)
        scope.launch(noting(log, "stubborn", outlast(released)))
        await turns()
        closing = await start(generator.aclose())
        closing.cancel("by me")
        await turns()
        assert not closing.done()
        released.set_result(None)
        with pytest.raises(asyncio.CancelledError, match="by me") as caught:
            await closing

        assert isinstance(caught.value.__context__, GeneratorExit)
        assert log == [*STOPPED, ("stubborn", "ended")]

    async def test_an_error_thrown_in_goes_on(self):
        """As from the body."""
        log, scope, error = [], task_scope(), Boom()

        generator = ticks(log, scope)
        await anext(generator)
        with pytest.raises(Boom) as caught:
            await generator.athrow(error)

        assert caught.value is error
        assert log == STOPPED

    async def test_a_generator_that_nobody_holds_any_more_stops_its_tasks(self):
        """The loop closes it in a task of its own."""
        log, scope = [], task_scope()

        generator = ticks(log, scope)
        await anext(generator)
        del generator
        gc.collect()
        await turns()

        assert log == STOPPED
        assert repr(scope) == "<task_scope closed, tasks=0>"

    @each_loop
    def test_a_generator_left_over_at_the_end_of_the_loop_stops_its_tasks(self, loop_factory, caplog, no_leaks):
        """``shutdown_asyncgens()`` comes after the other tasks were cancelled."""
        log, kept, scope = [], [], task_scope()

        async def main():
            kept.append(ticks(log, scope))
            await anext(kept[0])

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

        assert log == STOPPED
        assert repr(scope) == "<task_scope closed, tasks=0>"
        assert (caplog.records, no_leaks.errors) == ([], [])

    async def test_a_generator_may_be_entered_and_left_in_different_tasks(self):
        """There is no rule of the same task."""
        log, scope = [], task_scope()

        generator = ticks(log, scope)
        assert await asyncio.create_task(anext(generator)) == 1
        assert log == []
        await asyncio.create_task(generator.aclose())

        assert log == STOPPED

    async def test_it_makes_a_context_manager(self):
        """With `contextlib.asynccontextmanager`, body and scope are in different frames."""
        log = []

        @contextlib.asynccontextmanager
        async def service():
            async with task_scope() as scope:
                yield scope

        async def host(error):
            async with service() as scope:
                scope.launch(noting(log, "child", forever()))
                await turns(2)
                if error is not None:
                    raise error

        await host(None)
        assert log == STOPPED
        with pytest.raises(Boom):
            await host(Boom())
        assert log == STOPPED * 2


@pytest.fixture
async def scope():
    async with task_scope(drain=1000) as scope:
        yield scope


class TestOtherTasks:
    async def test_a_scope_works_in_a_fixture(self, scope):
        """Which is set up and torn down in tasks other than that of the test."""
        done = []
        scope.launch(noting(done, "child", turns()))
        assert len(scope) == 1

    async def test_an_exit_stack_may_be_closed_by_another_task(self):
        """Than the one that entered the scope."""
        log, stack = [], contextlib.AsyncExitStack()

        async def enter():
            scope = await stack.enter_async_context(task_scope())
            scope.launch(noting(log, "child", forever()))
            await turns(2)
            return scope

        scope = await asyncio.create_task(enter())
        assert len(scope) == 1
        await asyncio.create_task(stack.aclose())

        assert log == STOPPED

    async def test_an_exit_stack_passes_the_bodys_error_to_the_scope(self):
        """A cancellation while it is left has that error as its context."""
        error, [released] = Boom(), futures(1)

        async def host():
            async with contextlib.AsyncExitStack() as stack:
                scope = await stack.enter_async_context(task_scope())
                scope.launch(outlast(released))
                await turns(2)
                raise error

        task = await start(host())
        task.cancel()
        await turns()
        released.set_result(None)
        with pytest.raises(asyncio.CancelledError) as caught:
            await task

        assert caught.value.__context__ is error

    async def test_the_task_that_entered_may_be_gone(self):
        """Its end neither cancels nor loses the tasks of the scope."""
        [go] = futures(1)
        scope = task_scope()

        async def enter():
            await scope.__aenter__()
            return scope.launch(outlast(go))

        child = await asyncio.create_task(enter())
        await turns()
        gc.collect()
        assert scope.tasks == {child}
        go.set_result(5)
        assert await child == 5
        await scope.__aexit__(None, None, None)


async def hold(scope, log, body):
    """Hold *scope* with a child in it, while *body* waits for something."""
    async with scope:
        scope.launch(noting(log, "child", forever()), "child")
        await body(scope)


async def nothing(scope):
    """Go to the end of the block at once."""


async def by_hand(coroutine):
    """Run *coroutine* until it waits for something, in no task of its own."""
    while coroutine.send(None) is None:
        await turns(1)
    await turns()
    return coroutine


class TestClosedCoroutine:
    """``coro.close()``: a GeneratorExit in a coroutine that must not await any more."""

    @pytest.mark.parametrize("return_when", [asyncio.FIRST_EXCEPTION, asyncio.FIRST_COMPLETED, asyncio.ALL_COMPLETED])
    async def test_in_a_wait_the_tasks_are_cancelled_and_may_outlive_the_host(self, return_when, caplog):
        """Neither the wait nor the exit that follows may await, so they tell the tasks and leave."""
        log, scope = [], task_scope(drain=1000)
        host = await by_hand(hold(scope, log, lambda scope: scope.wait(1000, return_when)))

        host.close()

        assert (repr(scope), log) == ("<task_scope closed, tasks=1>", [])
        await turns()
        assert (repr(scope), log) == ("<task_scope closed, tasks=0>", STOPPED)
        assert caplog.records == []

    async def test_in_the_drain_the_tasks_are_cancelled_and_may_outlive_the_host(self, caplog):
        """It is a wait of ours as well."""
        log, scope = [], task_scope(drain=1000)
        host = await by_hand(hold(scope, log, nothing))

        host.close()

        assert (repr(scope), log) == ("<task_scope closed, tasks=1>", [])
        with refused(RuntimeError, "cannot launch into a closed task_scope: its block has ended"):
            scope.launch(forever())
        await turns()
        assert (repr(scope), log) == ("<task_scope closed, tasks=0>", STOPPED)
        assert caplog.records == []

    async def test_in_the_exit_the_tasks_are_cancelled_already_and_may_outlive_the_host(self, caplog):
        """They are not cancelled a second time."""
        log, scope, [released] = [], task_scope(), futures(1)

        async def body(scope):
            tasks.append(scope.launch(noting(log, "stubborn", outlast(released))))
            await turns(2)

        tasks = []
        host = await by_hand(hold(scope, log, body))
        assert (repr(scope), log) == ("<task_scope ending, tasks=1>", STOPPED)

        host.close()

        assert repr(scope) == "<task_scope closed, tasks=1>"
        released.set_result(None)
        await turns()
        assert (repr(scope), log) == ("<task_scope closed, tasks=0>", [*STOPPED, ("stubborn", "ended")])
        assert tasks[0].cancelling() == 1
        assert caplog.records == []

    async def test_in_another_wait_the_tasks_are_cancelled_and_python_says_the_rest(self, caplog):
        """Nothing tells such a close from the ``aclose()`` of a generator, so the exit waits, as TaskGroup's does.

        Python then complains; closed once more, the host is gone.
        """
        log, scope = [], task_scope()
        host = await by_hand(hold(scope, log, lambda scope: forever()))

        with pytest.raises(RuntimeError, match="coroutine ignored GeneratorExit"):
            host.close()
        host.close()

        await turns()
        assert (repr(scope), log) == ("<task_scope closed, tasks=0>", STOPPED)
        assert caplog.records == []

    async def test_task_groups_exit_waits_too(self):
        """The same with `asyncio.TaskGroup`, whose wait is then reported to leave its task cancelled."""

        async def host():
            async with asyncio.TaskGroup() as group:
                tasks.append(group.create_task(forever()))
                await forever()

        async def close_it():
            held = await by_hand(host())
            with pytest.raises(RuntimeError, match="coroutine ignored GeneratorExit"):
                held.close()
            with contextlib.suppress(BaseException):
                held.close()

        tasks = []
        await asyncio.create_task(close_it())
        await asyncio.wait(tasks)

    async def test_closing_another_one_who_waits_does_not_concern_the_scope(self):
        """Neither its tasks nor an exit that comes later."""
        log, [released] = [], futures(1)

        async def generator():
            async with task_scope() as scope:
                scope.launch(noting(log, "stubborn", outlast(released)))
                await turns(2)
                yield scope

        holder = generator()
        scope = await anext(holder)
        stranger = await by_hand(scope.wait())
        stranger.close()
        await turns()
        assert len(scope) == 1

        closing = await start(holder.aclose())
        assert not closing.done()
        released.set_result(None)
        await closing
        assert log == [("stubborn", "ended")]

    async def test_closing_another_one_in_the_turn_of_the_exit_does_not_concern_it_either(self):
        """What two tasks do in one turn of the loop has nothing to do with each other."""
        log, [released] = [], futures(1)

        async def generator():
            async with task_scope() as scope:
                scope.launch(noting(log, "stubborn", outlast(released)))
                await turns(2)
                yield scope

        holder = generator()
        scope = await anext(holder)
        stranger = await by_hand(scope.wait())

        closing = asyncio.create_task(holder.aclose())
        stranger.close()
        await turns()

        assert not closing.done()
        released.set_result(None)
        await closing
        assert log == [("stubborn", "ended")]


if sys.version_info >= (3, 13):
    # Before, a consumer that was closed left its generator waiting.

    async def test_a_generator_closed_in_a_wait_with_its_consumer_does_not_await():
        """The consumer is closed while the generator it iterates over waits for its own tasks."""
        log, scope = [], task_scope()

        async def generator():
            async with scope:
                scope.launch(noting(log, "child", forever()))
                await scope.wait()
                yield 1

        async def consume():
            async for _ in generator():
                pass

        consumer = await by_hand(consume())
        consumer.close()

        assert repr(scope) == "<task_scope closed, tasks=1>"
        await turns()
        assert log == STOPPED


class TestGarbageCollector:
    @pytest.mark.parametrize("where", ["body", "wait", "drain", "exit"])
    @pytest.mark.parametrize("later", ["no loop", "another loop"])
    @each_loop
    def test_a_host_collected_after_its_loop_is_closed_says_nothing(self, where, later, loop_factory, caplog, no_leaks):
        """Nothing can be awaited or cancelled any more. (asyncio itself complains of its pending tasks.)"""
        kept = []

        async def body(scope):
            if where == "body":
                await forever()
            elif where == "wait":
                await scope.wait(1000)
            elif where == "exit":
                scope.launch(outlast(*futures(1)))
                await turns(2)

        async def main():
            scope = task_scope(drain=1000 if where == "drain" else 0)
            kept.append(await by_hand(hold(scope, [], body)))

        async def collect():
            kept.clear()
            gc.collect()

        loop = loop_factory()
        loop.run_until_complete(main())
        loop.close()
        del loop
        if later == "another loop":
            asyncio.run(collect())
        else:
            kept.clear()
            gc.collect()

        assert [record for record in caplog.records if record.name != "asyncio"] == []
        assert {record.getMessage().partition("\n")[0] for record in no_leaks.errors} == {
            "Task was destroyed but it is pending!"
        }
        no_leaks.errors.clear()

    @each_loop
    def test_a_host_collected_between_two_runs_of_its_loop_cancels_its_tasks(self, loop_factory, caplog):
        """They stop as soon as the loop runs again."""
        kept, log = [], []

        async def main():
            kept.append(await by_hand(hold(task_scope(), log, lambda scope: forever())))

        loop = loop_factory()
        loop.run_until_complete(main())
        kept.clear()
        gc.collect()
        assert log == []
        loop.run_until_complete(turns())
        loop.close()

        assert log == STOPPED
        assert caplog.records == []
