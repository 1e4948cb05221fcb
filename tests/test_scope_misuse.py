"""`task_scope` used wrongly: a clear error, nothing launched, nothing left unawaited."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from loops import each_loop
from tools import Boom, async_handler, closed, forever, futures, give, outlast, refused, start, turns

from async_plus import task_scope


class TestMisuse:
    async def test_launching_before_the_entry_is_refused(self):
        """The coroutine is closed."""
        scope, coro = task_scope(), forever()

        with refused(
            RuntimeError, "cannot launch before the task_scope is entered: use 'async with task_scope() as scope'"
        ):
            scope.launch(coro)

        assert closed(coro)

    async def test_launching_after_the_end_is_refused(self):
        """The coroutine is closed."""
        async with task_scope() as scope:
            pass
        coro = forever()

        with refused(RuntimeError, "cannot launch into a closed task_scope: its block has ended"):
            scope.launch(coro)

        assert closed(coro)

    @pytest.mark.parametrize("with_a_loop", [False, True], ids=["without a loop", "with its own loop"])
    async def test_launching_from_another_thread_is_refused(self, with_a_loop):
        """The coroutine is closed, and the message tells how it is done."""
        caught, coro = [], forever()

        def launch():
            try:
                scope.launch(coro)
            except RuntimeError as exc:
                caught.append(str(exc))

        async def launch_in_a_loop():
            launch()

        async with task_scope() as scope:
            target = (lambda: asyncio.run(launch_in_a_loop())) if with_a_loop else launch
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
            assert len(scope) == 0

        assert caught == [
            "cannot launch from outside the task_scope's loop: use loop.call_soon_threadsafe(scope.launch, ...)"
        ]
        assert closed(coro)

    @each_loop
    def test_launching_from_another_loop_of_the_same_thread_is_refused(self, loop_factory):
        """A scope of a fixture with a loop of its own, say: the task would wait for that loop to run again."""
        scope, coro = task_scope(), forever()

        async def launch():
            with refused(
                RuntimeError,
                "cannot launch from outside the task_scope's loop: use loop.call_soon_threadsafe(scope.launch, ...)",
            ):
                scope.launch(coro)

        with asyncio.Runner(loop_factory=loop_factory) as first, asyncio.Runner(loop_factory=loop_factory) as second:
            first.run(scope.__aenter__())
            second.run(launch())
            first.run(scope.__aexit__(None, None, None))

        assert closed(coro)

    async def test_bad_coroutines_and_handlers_are_refused(self):
        """As by `launch_watched`: nothing is launched, and the coroutine is closed."""

        async def handler(task, exc):
            pass

        coro, other, ended = forever(), forever(), give(1)
        await ended
        async with task_scope() as scope:
            with refused(TypeError, "coro must be a coroutine, got the function forever (call it)"):
                scope.launch(forever)
            with refused(ValueError, "coro was awaited or closed before: coroutine give"):
                scope.launch(ended)
            with refused(TypeError, "on_exception must be a callable taking a task and an exception, got str"):
                scope.launch(coro, on_exception="log")
            with refused(
                TypeError,
                f"on_exception must be synchronous, but the function {handler.__qualname__} is async "
                "(launch a task inside it instead)",
            ):
                scope.launch(other, on_exception=handler)
            assert len(scope) == 0

        assert closed(coro)
        assert closed(other)

    async def test_entering_twice_is_refused(self):
        """While it is open, and when it is closed."""
        async with task_scope() as scope:
            with refused(RuntimeError, "a task_scope can be entered once, and this one is open"):
                await scope.__aenter__()
        with refused(RuntimeError, "a task_scope can be entered once, and this one is closed"):
            async with scope:
                pass

    async def test_leaving_what_is_not_open_is_refused(self):
        """Before the entry, a second time, and while somebody else leaves it."""
        scope, [released] = task_scope(), futures(1)
        with refused(RuntimeError, "this task_scope cannot be left, since it is not entered"):
            await scope.__aexit__(None, None, None)

        await scope.__aenter__()
        scope.launch(outlast(released))
        await turns()
        leaving = await start(scope.__aexit__(None, None, None))
        with refused(RuntimeError, "this task_scope cannot be left, since it is ending"):
            await scope.__aexit__(None, None, None)
        released.set_result(None)
        await leaving

        with refused(RuntimeError, "this task_scope cannot be left, since it is closed"):
            await scope.__aexit__(None, None, None)

    def test_with_instead_of_async_with_is_refused(self):
        """The message is the fix."""
        with refused(TypeError, "use 'async with task_scope()', not 'with'"), task_scope():
            pass
        with refused(TypeError, "use 'async with task_scope()', not 'with'"), contextlib.ExitStack() as stack:
            stack.push(task_scope())

    def test_a_scope_can_be_made_without_a_loop(self):
        """Its loop is the one that it is entered on."""
        scope = task_scope(print, drain=1, warn_after=2, name="feeds")

        assert repr(scope) == "<task_scope 'feeds' not entered, tasks=0>"

    @pytest.mark.parametrize(
        ("options", "kind", "message"),
        [
            (
                {"on_exception": 5},
                TypeError,
                "on_exception must be a callable taking a task and an exception, got int 5",
            ),
            (
                {"on_exception": async_handler},
                TypeError,
                "on_exception must be synchronous, but the function async_handler is async "
                "(launch a task inside it instead)",
            ),
            ({"drain": -1}, ValueError, "drain must be a finite number of seconds >= 0, got -1"),
            ({"drain": float("nan")}, ValueError, "drain must be a finite number of seconds >= 0, got nan"),
            ({"drain": float("inf")}, ValueError, "drain must be a finite number of seconds >= 0, got inf"),
            ({"drain": "5"}, TypeError, "drain must be a number of seconds, got str"),
            ({"drain": None}, TypeError, "drain must be a number of seconds, got NoneType"),
            ({"warn_after": 0}, ValueError, "warn_after must be a finite number of seconds > 0, got 0"),
            ({"warn_after": -5}, ValueError, "warn_after must be a finite number of seconds > 0, got -5"),
            ({"warn_after": float("inf")}, ValueError, "warn_after must be a finite number of seconds > 0, got inf"),
            ({"warn_after": True}, TypeError, "warn_after must be a number of seconds, got bool True"),
        ],
    )
    def test_bad_options_are_refused(self, options, kind, message):
        """By name, with the value."""
        with refused(kind, message):
            task_scope(**options)

    async def test_the_coroutine_is_closed_if_the_task_factory_fails(self):
        """Its error comes out as it is."""

        def factory(loop, coro, **options):
            raise Boom

        coro = forever()
        async with task_scope() as scope:
            asyncio.get_running_loop().set_task_factory(factory)
            with pytest.raises(Boom):
                scope.launch(coro)
            asyncio.get_running_loop().set_task_factory(None)
            assert len(scope) == 0

        assert closed(coro)
