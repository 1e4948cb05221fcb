"""`on_exception` of `launch_watched`: what replaces the report of a failure, and what becomes of its own failures."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import gc
import logging
import traceback
import unittest.mock

import pytest
from loops import each_loop
from tools import (
    Bang,
    Boom,
    async_handler,
    closed,
    crash,
    facts_of,
    fail,
    fail_when_cancelled,
    forever,
    give,
    here,
    messages,
    no_garbage_of_reports,
    refused,
    turns,
    watched,
)

from async_plus import HandlerFailed, TaskFailed, cancel_and_wait, ignore, launch_watched, try_gather
from async_plus.testing import record_events

SECRET = "hunter2"

exits = pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])


class TestOtherOwners:
    """A task may be given to a `try_gather` or a `cancel_and_wait` while we watch it."""

    @pytest.mark.parametrize("handler", [None, ignore, print], ids=["reported", "ignored", "handled"])
    async def test_a_failure_in_the_cleanup_is_reported_once(self, handler, caplog, capsys):
        """By us, if we report it; if it is to be ignored, by those who cannot raise it any more."""
        site = here(+1)
        task = launch_watched(fail_when_cancelled(Boom()), "saver", handler)
        await turns()

        await cancel_and_wait(task)

        place = "{}:{} in {}".format(*site)
        expected = {
            None: [("ERROR", f"task 'saver' failed with Boom, launched at {place}")],
            ignore: [("ERROR", "task 'saver' failed with Boom, not raised by cancel_and_wait: it ends otherwise")],
            print: [],
        }
        assert messages(caplog) == expected[handler]
        assert len(capsys.readouterr().out.splitlines()) == (handler is print)

    async def test_a_handler_that_is_false_handles_it(self, caplog):
        """It is one nevertheless."""
        errors = Errors()
        task = launch_watched(fail_when_cancelled(Boom()), on_exception=errors)
        await turns()

        await cancel_and_wait(task)

        assert errors == [(task, task.exception())]
        assert caplog.records == []

    async def test_a_failure_that_a_gather_raises_is_reported_as_well(self, caplog):
        """At once, as it would be without the gather."""
        task = launch_watched(fail(Boom()), "saver")

        with pytest.raises(Boom):
            await try_gather(task)
        await turns()

        [record] = caplog.records
        assert record.exc_info[1] is task.exception()


class Errors(list):
    """A handler that is false as long as it is empty."""

    def __call__(self, task, exc):
        self.append((task, exc))


class TestHandler:
    async def test_it_replaces_the_report(self, caplog):
        """It is called once, with the task and its exception, and nothing is logged."""
        seen = []
        with record_events() as events:
            task = launch_watched(fail(Boom()), on_exception=lambda task, exc: seen.append((task, exc)))
            await turns()

        assert seen == [(task, task.exception())]
        assert (caplog.records, events) == ([], [])

    async def test_a_handler_may_be_false(self, caplog):
        """A handler is one by being callable."""
        errors = Errors()

        task = launch_watched(fail(Boom()), on_exception=errors)
        await turns()

        assert errors == [(task, task.exception())]
        assert caplog.records == []

    async def test_it_may_launch_the_next_task(self):
        """A restart by hand."""
        started = []

        async def service():
            started.append(len(started))
            if len(started) < 3:
                raise Boom

        def again(task, exc):
            launch_watched(service(), on_exception=again)

        again(None, None)
        await turns(20)

        assert started == [0, 1, 2]
        assert watched() == 0

    async def test_ignore_leaves_the_failure_to_whoever_awaits_the_task(self, caplog):
        """Nothing is logged; the error is raised there."""
        task = launch_watched(fail(Boom()), on_exception=ignore)

        with pytest.raises(Boom):
            await task
        assert caplog.records == []

    async def test_with_ignore_a_failure_that_nobody_awaits_is_lost(self, caplog, no_leaks):
        """Not even asyncio tells of it, as `ignore` says."""
        launch_watched(fail(Boom()), on_exception=ignore)
        await turns()
        gc.collect()

        assert (caplog.records, no_leaks.errors) == ([], [])
        assert "the failure is lost" in ignore.__doc__

    async def test_one_that_raises_is_logged_beside_the_failure(self, caplog, no_leaks):
        """Two records with their tracebacks, the failure first; nothing propagates to the loop."""

        def handler(task, exc):
            raise Bang(SECRET)

        site = here(+1)
        task = launch_watched(fail(Boom()), "saver", handler)
        with record_events() as events:
            await turns()

        [failure, handling] = caplog.records
        place = "{}:{} in {}".format(*site)
        name = handler.__qualname__
        assert failure.getMessage() == f"task 'saver' failed with Boom, launched at {place}"
        assert failure.exc_info[1] is task.exception()
        assert handling.levelno == logging.ERROR
        assert handling.getMessage() == f"on_exception handler {name} of task 'saver' failed with Bang"
        assert type(handling.exc_info[1]) is Bang
        assert [frame.name for frame in traceback.extract_tb(handling.exc_info[2])] == ["handler"]
        assert facts_of(handling) == {
            "event": "HandlerFailed",
            "task": "saver",
            "handler": name,
            "exception": "Bang",
        }
        assert [type(event) for event in events] == [TaskFailed, HandlerFailed]
        assert no_leaks.errors == []

    async def test_one_that_raises_what_it_was_given_is_logged_as_such(self, caplog):
        """Both records then show one exception, each with its own way to it."""

        def handler(task, exc):
            raise exc

        launch_watched(fail(Boom()), "saver", handler)
        await turns()

        [failure, handling] = caplog.records
        assert failure.exc_info[1] is handling.exc_info[1]
        assert [frame.name for frame in traceback.extract_tb(failure.exc_info[2])] == ["fail"]
        assert [frame.name for frame in traceback.extract_tb(handling.exc_info[2])] == ["handler", "fail"]

    @pytest.mark.parametrize("given", [True, False], ids=["what it was given", "another error"])
    async def test_one_that_raises_is_logged_though_the_errors_are_frozen(self, given, caplog, no_leaks):
        """A frozen dataclass refuses to have its traceback set, as it refuses every change."""

        @dataclasses.dataclass(frozen=True)
        class FrozenError(Exception):
            code: int

        def handler(task, exc):
            raise exc if given else FrozenError(2)

        site = here(+1)
        launch_watched(fail(FrozenError(1)), "saver", handler)
        await turns()

        name, kind, place = handler.__qualname__, FrozenError.__qualname__, "{}:{} in {}".format(*site)
        assert messages(caplog) == [
            ("ERROR", f"task 'saver' failed with {kind}, launched at {place}"),
            ("ERROR", f"on_exception handler {name} of task 'saver' failed with {kind}"),
        ]
        assert [[frame.name for frame in traceback.extract_tb(record.exc_info[2])] for record in caplog.records] == [
            ["fail"],
            ["handler", "fail"] if given else ["handler"],
        ]
        assert no_leaks.errors == []

    @pytest.mark.parametrize("given", [True, False], ids=["what it was given", "another error"])
    async def test_one_that_raises_leaves_no_reference_cycle(self, given):
        """The frames in its traceback are ours, and hold the failed task (gh-124958)."""

        def handler(task, exc):
            try:
                raise exc if given else Bang
            finally:
                del task, exc

        with no_garbage_of_reports():
            launch_watched(crash(0), "saver", handler)
            await turns()

    async def test_a_cancelled_error_of_the_handler_is_a_failure_of_it(self, caplog):
        """There is nobody whom it could cancel."""

        def handler(task, exc):
            raise asyncio.CancelledError

        launch_watched(fail(Boom()), "saver", handler)
        await turns()

        assert [facts_of(record)["exception"] for record in caplog.records] == ["Boom", "CancelledError"]

    async def test_one_that_returns_a_coroutine_is_told_to_be_synchronous(self, caplog):
        """A lambda around an async function: the coroutine is closed, and the failure reported after all."""
        made = []

        def handler(task, exc):
            made.append(forever())
            return made[0]

        launch_watched(fail(Boom()), "saver", handler)
        await turns()

        [failure, handling] = caplog.records
        assert facts_of(failure)["exception"] == "Boom"
        assert str(handling.exc_info[1]) == "on_exception must be synchronous, but it returned a coroutine"
        assert handling.getMessage() == (
            f"on_exception handler {handler.__qualname__} of task 'saver' failed with TypeError"
        )
        assert closed(made[0])

    async def test_what_else_it_returns_does_not_matter(self, caplog):
        """It may start a task, and even return it."""
        launch_watched(fail(Boom()), on_exception=lambda task, exc: asyncio.ensure_future(give(1)))
        await turns()

        assert caplog.records == []

    async def test_an_object_that_is_called_is_named_by_its_type(self, caplog):
        """And a partial by its function. What they hold is not shown."""

        class Handler:
            def __init__(self, error):
                self.error = error

            def __call__(self, task, exc):
                raise self.error

        handler = Handler(Bang(SECRET))
        launch_watched(fail(Boom()), "first", handler)
        launch_watched(fail(Boom()), "second", functools.partial(Handler.__call__, handler))
        await turns()

        assert [caplog.records[1].getMessage(), caplog.records[3].getMessage()] == [
            f"on_exception handler {Handler.__name__} of task 'first' failed with Bang",
            f"on_exception handler {Handler.__call__.__qualname__} of task 'second' failed with Bang",
        ]

    @exits
    @each_loop
    def test_one_that_exits_the_program_does(self, kind, loop_factory, caplog, no_leaks):
        """``sys.exit()`` in a handler ends the loop, as anywhere else."""

        def handler(task, exc):
            raise kind(3)

        async def main():
            launch_watched(fail(Boom()), "saver", handler)
            await forever()

        with pytest.raises(kind), asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
        assert caplog.records == []
        assert no_leaks.errors == []


class AsyncHandler:
    async def method(self, task, exc):
        pass

    async def __call__(self, task, exc):
        pass


class TestRefusedHandler:
    @pytest.mark.parametrize(
        ("handler", "what"),
        [
            (async_handler, "the function async_handler"),
            (AsyncHandler().method, "the function AsyncHandler.method"),
            (AsyncHandler(), "AsyncHandler"),
            (functools.partial(async_handler), "the function async_handler"),
            (functools.partial(AsyncHandler()), "AsyncHandler"),
            (unittest.mock.AsyncMock(), "the function AsyncMock"),
        ],
        ids=["function", "method", "object", "partial", "partial object", "mock"],
    )
    async def test_it_must_not_be_async(self, handler, what):
        """Nobody would await what it returns. Nothing is launched, and the coroutine is closed."""
        coro = forever()

        with refused(
            TypeError, f"on_exception must be synchronous, but {what} is async (launch a task inside it instead)"
        ):
            launch_watched(coro, on_exception=handler)

        assert closed(coro)
        assert watched() == 0

    @pytest.mark.parametrize(
        ("handler", "what"), [("log", "str"), (0, "int 0"), ([], "list")], ids=["text", "number", "list"]
    )
    async def test_it_must_be_callable(self, handler, what):
        """Nothing is launched, and the coroutine is closed."""
        coro = forever()

        with refused(TypeError, f"on_exception must be a callable taking a task and an exception, got {what}"):
            launch_watched(coro, on_exception=handler)

        assert closed(coro)
        assert watched() == 0
