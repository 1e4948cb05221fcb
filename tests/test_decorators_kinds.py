"""@supervised and @impatient leave a coroutine function, @watched does not: who sees that, and what it is good for."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import signal
import sys
import types
from unittest.mock import AsyncMock

import decorated
import pytest
from decorated import (
    LAUNCHING,
    Poller,
    fetch,
    few_keeping_decorators,
    few_launching_decorators,
    is_coroutine_function,
    keeping_decorator,
    launching_decorator,
    plain_decorator,
)

import async_plus


class TestCoroutineFunctions:
    """@supervised and @impatient leave a coroutine function, @watched does not."""

    @keeping_decorator
    @pytest.mark.parametrize("fn", [fetch, functools.partial(fetch), AsyncMock()], ids=["function", "partial", "mock"])
    def test_a_coroutine_function_stays_one(self, decorate, fn):
        """Frameworks ask before they call; each predicate says yes, of a partial of it as well."""
        assert is_coroutine_function(fn)
        assert is_coroutine_function(decorate(fn))
        assert is_coroutine_function(functools.partial(decorate(fn)))

    @keeping_decorator
    def test_an_object_counts_for_all_who_know_marks(self, decorate):
        """A plain object with an async call is no coroutine function to them; decorated it is.

        Save for inspect on 3.11, which does not know marks yet.
        """
        face = decorate(Poller())
        knowing = decorated.PREDICATES if sys.version_info >= (3, 12) else [asyncio.iscoroutinefunction]

        assert all(predicate(face) for predicate in knowing)

    @plain_decorator
    @pytest.mark.parametrize(
        "fn",
        [fetch, functools.partial(fetch), Poller(), functools.partial(Poller()), async_plus.try_gather, AsyncMock()],
        ids=["function", "partial", "object", "partial-object", "marked", "mock"],
    )
    def test_what_is_watched_or_an_entry_point_is_none(self, decorate, fn):
        """It returns a task or a result, not a coroutine, and every predicate says so, of a partial of it as well."""
        face = decorate(fn)

        assert not is_coroutine_function(face)
        assert not is_coroutine_function(functools.partial(face))
        assert not is_coroutine_function(face.__call__)
        assert not asyncio.iscoroutine(face)

    @launching_decorator
    @pytest.mark.skipif(sys.version_info >= (3, 14), reason="asyncio's old mark goes with its predicate")
    def test_what_bears_the_old_mark_can_be_watched(self, decorate):
        """A function that only asyncio itself takes for a coroutine function is none any more either."""

        def start():
            return fetch("a")

        start._is_coroutine = asyncio.coroutines._is_coroutine
        assert asyncio.iscoroutinefunction(start)

        assert not is_coroutine_function(decorate(start))


class TestCallbacks:
    """What is watched serves where a loop calls back."""

    @few_launching_decorators
    @pytest.mark.parametrize(
        "make",
        [lambda fn: fn, functools.partial, lambda fn: types.MethodType(fn, "self")],
        ids=["function", "partial", "method"],
    )
    async def test_the_loop_takes_it_for_each_kind_of_callback(self, decorate, make):
        """`call_soon`, `call_later`, `call_at` and threads: none mistakes it for a coroutine function.

        In debug mode the loop refuses coroutine functions, which is when a mistake shows.
        """
        loop = asyncio.get_running_loop()
        called = asyncio.Queue()

        async def put(*args):
            await called.put(args[-1])

        callback = make(decorate(put))
        loop.call_soon(callback, 1)
        loop.call_soon_threadsafe(callback, 2)
        loop.call_later(0, callback, 3)
        loop.call_at(loop.time(), callback, 4)

        assert {await called.get() for _ in range(4)} == {1, 2, 3, 4}

    @few_launching_decorators
    async def test_a_signal_handler_may_be_watched(self, decorate):
        """`add_signal_handler` refuses coroutine functions in every mode."""
        loop = asyncio.get_running_loop()
        received = loop.create_future()

        async def receive(name):
            received.set_result(name)

        loop.add_signal_handler(signal.SIGUSR1, decorate(receive), "SIGUSR1")
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            assert await received == "SIGUSR1"
        finally:
            loop.remove_signal_handler(signal.SIGUSR1)

    @few_keeping_decorators
    @pytest.mark.asyncio(loop_factories=["debug"])  # the others do not look
    async def test_what_is_a_coroutine_function_still_is_refused_as_before(self, decorate):
        """The loop's own check is not put to sleep for those who forget @watched."""
        with pytest.raises(TypeError) as caught:
            asyncio.get_running_loop().call_soon(decorate(fetch))

        assert str(caught.value) == "coroutines cannot be used with call_soon()"


class TestLaunchSite:
    """A failure of a watched task names the line of the call, in whatever form that was."""

    @staticmethod
    def reported(caplog):
        [record] = caplog.records
        place = record.async_plus_launched_at
        caplog.clear()
        return place

    @pytest.mark.parametrize(
        "decorate", [async_plus.watched, LAUNCHING["watched-over-impatient"]], ids=["alone", "stacked"]
    )
    @pytest.mark.parametrize(
        "form",
        [
            lambda fn, decorate: decorate(fn),
            lambda fn, decorate: decorate(functools.partial(fn)),
            lambda fn, decorate: functools.partial(decorate(fn)),
            lambda fn, decorate: type("Thing", (), {"method": decorate(fn)})().method,
            lambda fn, decorate: type("Thing", (), {"method": decorate(classmethod(fn))}).method,
            lambda fn, decorate: type("Thing", (), {"method": classmethod(decorate(fn))}).method,
            lambda fn, decorate: type("Thing", (), {"method": decorate(staticmethod(fn))}).method,
            lambda fn, decorate: type("Thing", (), {"method": staticmethod(decorate(fn))})().method,
            lambda fn, decorate: type("Thing", (), {"method": functools.partialmethod(decorate(fn))})().method,
            lambda fn, decorate: decorate(type("Thing", (), {"method": fn})().method),
            lambda fn, decorate: type("Thing", (), {"__call__": decorate(fn)})(),
            lambda fn, decorate: decorate(type("Thing", (), {"__call__": fn})()),
        ],
        ids=[
            "function",
            "over-partial",
            "under-partial",
            "method",
            "over-classmethod",
            "under-classmethod",
            "over-staticmethod",
            "under-staticmethod",
            "partialmethod",
            "over-bound-method",
            "under-object",
            "over-object",
        ],
    )
    async def test_it_is_the_line_of_the_call(self, form, decorate, caplog):
        """Functions, methods, partials and objects, decorated from above and from below."""

        async def fail(*args):
            raise ValueError

        launch = form(fail, decorate)
        line = inspect.currentframe().f_lineno + 1
        task = launch()
        await asyncio.wait([task])

        here = "TestLaunchSite.test_it_is_the_line_of_the_call".rpartition(".")[2]
        assert self.reported(caplog) == f"{__file__}:{line} in {here}"
        assert isinstance(task.exception(), ValueError)

    @pytest.mark.asyncio(loop_factories=["default", "debug"])  # uvloop's callbacks have no frame of their own
    async def test_called_back_by_the_loop_it_is_the_loop(self, caplog):
        """Nobody else has called it: the place is where the loop runs its callbacks, never a file of ours."""

        @async_plus.watched
        async def fail():
            failed.set()
            raise ValueError

        failed = asyncio.Event()
        asyncio.get_running_loop().call_soon(fail)
        await failed.wait()
        await asyncio.sleep(0)

        place = self.reported(caplog)
        assert place.startswith(asyncio.events.__file__)
        assert place.endswith(" in _run")
