"""The end of a `task_scope` whose host is cancelled, once or again, by whatever is around it."""

from __future__ import annotations

import asyncio

import pytest
from tools import (
    Boom,
    fail,
    forever,
    futures,
    give,
    no_garbage,
    noting,
    outlast,
    start,
    turns,
)

from async_plus import ignore, task_scope


async def clean_up(log, name, seconds):
    """Take *seconds* to stop."""
    try:
        await forever()
    finally:
        await noting(log, name, asyncio.sleep(seconds))


class TestOuterCancellation:
    async def test_one_in_the_body_stops_the_tasks_and_goes_on(self, caplog):
        """As any exception of the body; `cancelling()` tells of it, and of nothing else."""
        log = []

        async def host():
            async with task_scope() as scope:
                scope.launch(noting(log, "child", forever()))
                await noting(log, "body", forever())

        task = await start(host())
        task.cancel("by me")
        with pytest.raises(asyncio.CancelledError, match="by me") as caught:
            await task

        assert log == [("body", "CancelledError"), ("body", "ended"), ("child", "CancelledError"), ("child", "ended")]
        assert caught.value.__context__ is None
        assert task.cancelling() == 1
        assert caplog.records == []

    async def test_one_before_the_first_step_of_the_host_leaves_nothing(self):
        """The scope is never entered."""

        async def host():
            async with task_scope() as scope:
                scope.launch(forever())
                await forever()

        task = asyncio.create_task(host())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    @pytest.mark.parametrize("times", [1, 2, 3])
    async def test_one_in_the_exit_is_raised_when_all_have_stopped(self, times):
        """However often it comes: the tasks are not cancelled again, and the first one is raised."""
        log, [released] = [], futures(1)

        async def host():
            async with task_scope() as scope:
                tasks.append(scope.launch(noting(log, "child", outlast(released))))
                await turns(2)
            log.append("never comes here")

        tasks = []
        task = await start(host())
        for number in range(times):
            task.cancel(f"number {number}")
            await turns()
            assert not task.done()
        released.set_result(None)
        with pytest.raises(asyncio.CancelledError, match="number 0"):
            await task

        assert log == [("child", "ended")]
        assert tasks[0].cancelling() == 1
        assert task.cancelling() == times

    async def test_one_in_the_exit_wins_over_the_bodys_error(self):
        """The error is its context, so that nothing is lost."""
        [released], error = futures(1), Boom()

        async def host():
            async with task_scope() as scope:
                scope.launch(outlast(released))
                await turns(2)
                raise error

        task = await start(host())
        task.cancel("by me")
        await turns()
        released.set_result(None)
        with pytest.raises(asyncio.CancelledError, match="by me") as caught:
            await task

        assert caught.value.__context__ is error
        assert error.__context__ is None
        assert task.cancelling() == 1

    async def test_the_bodys_error_is_the_context_too_where_the_scope_is_left_by_hand(self):
        """By an exit stack of another make, say, outside of any ``except``."""
        [released], error = futures(1), Boom()

        async def leave(scope):
            await scope.__aexit__(Boom, error, None)

        scope = await task_scope().__aenter__()
        scope.launch(outlast(released))
        await turns()
        task = await start(leave(scope))
        task.cancel()
        await turns()
        released.set_result(None)
        with pytest.raises(asyncio.CancelledError) as caught:
            await task

        assert caught.value.__context__ is error

    async def test_a_second_one_in_the_exit_has_the_first_as_its_context(self):
        """The first came to the body, and stopped it."""
        [released] = futures(1)

        async def host():
            async with task_scope() as scope:
                scope.launch(outlast(released))
                await forever()

        task = await start(host())
        task.cancel("first")
        await turns()
        task.cancel("second")
        await turns()
        released.set_result(None)
        with pytest.raises(asyncio.CancelledError, match="second") as caught:
            await task

        assert str(caught.value.__context__) == "first"
        assert task.cancelling() == 2

    async def test_one_between_drain_and_cleanup_is_raised_once(self):
        """A second one, while the tasks clean up, adds nothing."""
        log, [released] = [], futures(1)

        async def host():
            async with task_scope(drain=1000) as scope:
                scope.launch(noting(log, "child", outlast(released)))

        task = await start(host())
        task.cancel("while draining")
        await turns()
        task.cancel("while cleaning up")
        await turns()
        assert not task.done()
        released.set_result(None)
        with pytest.raises(asyncio.CancelledError, match="while draining"):
            await task

        assert log == [("child", "ended")]

    async def test_one_in_the_exit_leaves_no_reference_cycle(self):
        """Its traceback holds our frames, but those hold it no more (gh-124958)."""
        [released] = futures(1)

        async def host():
            async with task_scope(ignore) as scope:
                scope.launch(outlast(released))
                await turns(2)
                raise Boom

        with no_garbage():
            task = await start(host())
            task.cancel()
            await turns()
            released.set_result(None)
            await asyncio.wait([task])
            del task

    @pytest.mark.virtual_time
    async def test_a_timeout_around_the_scope_stops_the_tasks(self, virtual_clock):
        """And is a TimeoutError when they have stopped."""
        log = []

        async def host():
            async with asyncio.timeout(3), task_scope() as scope:
                scope.launch(clean_up(log, "child", 2))
                await scope.wait()

        with pytest.raises(TimeoutError):
            await host()

        assert log == [("child", "ended")]
        assert asyncio.current_task().cancelling() == 0
        assert virtual_clock.elapsed == 5

    @pytest.mark.virtual_time
    async def test_a_timeout_around_the_scope_may_expire_in_the_exit(self, virtual_clock):
        """The cleanup is not cut short, and the body's error is not lost."""
        log = []

        async def host():
            async with asyncio.timeout(3), task_scope() as scope:
                scope.launch(clean_up(log, "child", 5))
                await asyncio.sleep(0.001)
                raise Boom

        with pytest.raises(TimeoutError) as caught:
            await host()

        assert log == [("child", "ended")]
        cancelled = caught.value.__cause__
        assert isinstance(cancelled, asyncio.CancelledError)
        assert isinstance(cancelled.__context__, Boom)
        assert asyncio.current_task().cancelling() == 0
        assert virtual_clock.elapsed == 5.001

    async def test_a_task_group_around_the_scope_stops_the_tasks(self):
        """A group whose other task fails cancels the host, and gets only that task's error (gh-116720)."""
        log = []

        async def service():
            async with task_scope() as scope:
                scope.launch(noting(log, "child", forever()))
                await noting(log, "body", forever())

        async def host():
            async with asyncio.TaskGroup() as group:
                group.create_task(service())
                await turns()
                group.create_task(fail(Boom()))

        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.create_task(host())

        [error] = caught.value.exceptions
        assert isinstance(error, Boom)
        assert log == [("body", "CancelledError"), ("body", "ended"), ("child", "CancelledError"), ("child", "ended")]

    async def test_a_scope_in_a_task_group_in_one_task(self):
        """The group cancels its own host, whose exit from the scope is not disturbed by that (gh-116720)."""
        log = []

        async def host():
            async with asyncio.TaskGroup() as group, task_scope() as scope:
                scope.launch(noting(log, "child", forever()))
                await turns()
                group.create_task(fail(Boom()))
                await forever()

        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.create_task(host())

        assert list(map(type, caught.value.exceptions)) == [Boom]
        assert log == [("child", "CancelledError"), ("child", "ended")]

    @pytest.mark.parametrize(("owner", "cancellations"), [("scope", 1), ("gather", 3)])
    async def test_a_gather_passes_on_each_cancellation_and_a_scope_one(self, owner, cancellations):
        """The difference: with `asyncio.gather` an impatient stop breaks into the cleanup of the tasks."""
        tasks, [released] = [], futures(1)

        async def child():
            tasks.append(asyncio.current_task())
            await outlast(released)

        async def host():
            if owner == "gather":
                await asyncio.gather(child())
            async with task_scope() as scope:
                scope.launch(child())
                await forever()

        task = await start(host())
        for _ in range(3):
            task.cancel()
            await turns()
        released.set_result(None)
        await asyncio.wait([task])

        assert tasks[0].cancelling() == cancellations

    async def test_the_host_can_go_on_after_a_cancellation_it_takes_back(self):
        """`cancelling()` is then as it was, since the scope never touches it (gh-116720)."""

        async def host():
            try:
                async with task_scope() as scope:
                    scope.launch(forever())
                    await forever()
            except asyncio.CancelledError:
                asyncio.current_task().uncancel()
            async with asyncio.timeout(None), task_scope() as scope:
                value = await scope.launch(give(5))
            return value, asyncio.current_task().cancelling()

        task = await start(host())
        task.cancel()

        assert await task == (5, 0)
