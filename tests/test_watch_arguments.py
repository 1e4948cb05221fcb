"""What `launch_watched` does not take: a clear error, nothing launched, nothing left unawaited."""

from __future__ import annotations

import asyncio
import threading

import pytest
from tools import Boom, closed, forever, give, refused, start, turns, watched

from async_plus import launch_watched, task_scope

SECRET = "hunter2"


class TestRefusedCoroutine:
    @pytest.mark.parametrize(
        ("make", "what"),
        [
            (lambda: forever, "the function forever (call it)"),
            (lambda: len, "the function len"),
            (lambda: asyncio.get_running_loop().create_future(), "Future"),
            (lambda: (number for number in ()), "generator"),
            (lambda: None, "NoneType"),
            (lambda: 5, "int 5"),
            (lambda: SECRET, "str"),
            (lambda: asyncio.Task, "the class Task"),
        ],
        ids=["coroutine function", "function", "future", "generator", "nothing", "number", "text", "class"],
    )
    async def test_only_coroutines_are_taken(self, make, what):
        """The message tells what was given by names only."""
        with refused(TypeError, f"coro must be a coroutine, got {what}"):
            launch_watched(make())
        assert watched() == 0

    async def test_a_task_is_refused_and_goes_on(self):
        """It runs already, and belongs to somebody."""
        task = await start(forever())

        with refused(TypeError, "coro must be a coroutine, got Task"):
            launch_watched(task)

        await turns()
        assert not task.done()
        assert not task.cancelling()
        task.cancel()
        await turns()

    async def test_a_list_of_coroutines_is_refused_and_they_are_closed(self):
        """None of them is warned of as never awaited (gh-115957)."""
        coros = [forever(), forever()]

        with refused(TypeError, "coro must be a coroutine, got list"):
            launch_watched(coros)

        assert all(map(closed, coros))

    async def test_a_coroutine_that_has_ended_is_refused(self):
        """It would fail in its first step only, far from the mistake."""
        ended, unstarted = give(1), give(2)
        await ended
        unstarted.close()

        for coro in (ended, unstarted):
            with refused(ValueError, "coro was awaited or closed before: coroutine give"):
                launch_watched(coro)
        assert watched() == 0

    async def test_a_coroutine_that_somebody_awaits_is_refused_and_goes_on(self):
        """It is not closed: somebody else runs it."""
        coro = forever()
        task = await start(coro)

        with refused(ValueError, "coro was awaited or closed before: coroutine forever"):
            launch_watched(coro)

        await turns()
        assert not task.done()
        task.cancel()
        await turns()

    async def test_a_coroutine_that_is_running_is_refused_and_goes_on(self):
        """The caller's own."""

        async def caller():
            with refused(ValueError, f"coro was awaited or closed before: coroutine {caller.__qualname__}"):
                launch_watched(coro)
            return "went on"

        coro = caller()
        assert await asyncio.create_task(coro) == "went on"

    @pytest.mark.parametrize(
        ("name", "what"),
        [(5, "int 5"), (b"saver", "bytes"), (print, "the function print (is it meant to be on_exception?)")],
        ids=["number", "bytes", "function"],
    )
    async def test_a_name_that_is_no_string_is_refused(self, name, what):
        """asyncio would make one of it, and in async_plus 0.3 the second argument of a scope's launch was a handler."""
        coros = forever(), forever()

        async with task_scope() as scope:
            for launch, coro in zip((launch_watched, scope.launch), coros, strict=True):
                with refused(TypeError, f"name must be a string, got {what}"):
                    launch(coro, name)

        assert all(map(closed, coros))
        assert watched() == 0

    async def test_a_context_that_is_none_is_refused(self):
        """asyncio takes it, and the task then neither runs nor ends."""
        coro = forever()

        with refused(TypeError, "context must be a contextvars.Context, got dict"):
            launch_watched(coro, context={})

        assert closed(coro)
        assert watched() == 0

    async def test_the_coroutine_is_closed_if_the_task_factory_fails(self):
        """Its error comes out as it is."""
        error = Boom()

        def factory(loop, coro, **options):
            raise error

        asyncio.get_running_loop().set_task_factory(factory)
        coro = forever()

        with pytest.raises(Boom) as caught:
            launch_watched(coro)

        asyncio.get_running_loop().set_task_factory(None)
        assert caught.value is error
        assert closed(coro)
        assert watched() == 0

    def test_it_needs_a_running_loop(self):
        """It says so, and closes the coroutine."""
        coro = forever()

        with refused(RuntimeError, "a watched task needs a running event loop: launch it from a coroutine"):
            launch_watched(coro)

        assert closed(coro)

    async def test_it_needs_a_loop_that_runs_in_this_thread(self):
        """Another thread has none, or one of its own."""
        coro = forever()
        caught = []

        def launch():
            try:
                launch_watched(coro)
            except RuntimeError as exc:
                caught.append(str(exc))

        thread = threading.Thread(target=launch)
        thread.start()
        thread.join()

        assert caught == ["a watched task needs a running event loop: launch it from a coroutine"]
        assert closed(coro)
