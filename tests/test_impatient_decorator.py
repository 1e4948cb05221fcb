"""`@impatient(...)`: each call of a coroutine function is an impatient wait. (Forms and typing: test_decorators.py.)"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import logging
import types
import unittest.mock
import weakref

import pytest
from places import at, first_line
from tools import Boom, closed, forever, futures, give, messages, no_garbage, start, turns
from waits import registers, waiting

import async_plus
from async_plus import impatient

pytestmark = pytest.mark.usefixtures("everything_is_logged")

virtual = pytest.mark.virtual_time


@impatient(log_after=5)
async def fetch(seconds, outcome=None):
    """Take *seconds*, then raise or return *outcome*."""
    await asyncio.sleep(seconds)
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


@impatient(log_after=5, log_completion="always", name="the login")
async def log_in(seconds):
    await asyncio.sleep(seconds)


class Client:
    @impatient(log_after=5)
    async def get(self, seconds):
        await asyncio.sleep(seconds)

    @impatient(log_after=5)
    @classmethod
    async def connect(cls, seconds):
        await asyncio.sleep(seconds)

    @staticmethod
    @impatient(log_after=5)
    async def resolve(seconds):
        await asyncio.sleep(seconds)

    async def __call__(self, seconds):
        await asyncio.sleep(seconds)


SLEEP = at(fetch, "asyncio.sleep")


@virtual
class TestRecords:
    """The same records as of an await, with the line that awaits the decorated function."""

    async def test_a_long_call_is_told_of_at_the_line_that_awaits_it(self, caplog):
        """Function, seconds, the caller's line; where it is parked; in the end the outcome."""

        async def crawl():
            return await fetch(12.3, "page")

        assert await crawl() == "page"

        where = at(crawl, "await fetch")
        assert messages(caplog) == [
            ("WARNING", f"Still waiting for fetch after 5.0 s at {where}; parked at {SLEEP} on sleep, 7.3 s left"),
            ("WARNING", f"fetch at {where} returned after 12.3 s"),
        ]
        assert [f"{r.pathname}:{r.lineno} in {r.funcName}" for r in caplog.records] == [where] * 2

    async def test_a_quick_call_says_nothing(self, caplog):
        """Nor does it leave anything in the register."""
        assert await fetch(1, "page") == "page"

        assert messages(caplog) == []
        assert waiting() == {}

    @pytest.mark.parametrize("error", [Boom(), asyncio.CancelledError()])
    async def test_a_failure_is_told_of_and_raised(self, error, caplog):
        """The very exception, and in the log its type."""

        async def crawl():
            await fetch(6, error)

        with pytest.raises(type(error)) as caught:
            await crawl()

        assert caught.value is error
        ending = "raised Boom" if isinstance(error, Boom) else "was cancelled"
        assert messages(caplog)[1] == ("WARNING", f"fetch at {at(crawl, 'await fetch')} {ending} after 6.0 s")

    async def test_the_options_are_those_of_the_await(self, caplog):
        """`log_completion`, `name`, `log_level` and `stacklevel` mean the same."""

        @impatient(log_after=5, log_level=logging.INFO, stacklevel=1, log_completion="never")
        async def work():
            await asyncio.sleep(6)

        async def inner():
            await work()

        async def outer():
            await log_in(1)
            await inner()

        await outer()

        assert messages(caplog) == [
            ("INFO", f"the login at {at(outer, 'await log_in')} returned after 1.0 s"),
            (
                "INFO",
                f"Still waiting for {work.__qualname__} after 5.0 s at {at(outer, 'await inner')};"
                f" parked at {at(work, 'asyncio.sleep')} on sleep, 1.0 s left",
            ),
        ]

    async def test_log_completion_always_needs_no_log_after(self, caplog):
        """Every call is told of when it ends."""

        @impatient(log_completion="always")
        async def work():
            await asyncio.sleep(100)

        async def crawl():
            await work()

        await crawl()

        assert messages(caplog) == [
            ("INFO", f"{work.__qualname__} at {at(crawl, 'await work')} returned after 100.0 s")
        ]

    async def test_each_call_is_a_wait_of_its_own(self, caplog):
        """Calls at the same time do not disturb each other, nor do calls one after the other add up."""

        async def crawl():
            await asyncio.gather(fetch(3), fetch(4), fetch(6))
            await fetch(3)
            await fetch(4)

        await crawl()

        assert [text.partition(" at ")[0] for _, text in messages(caplog)] == [
            "Still waiting for fetch after 5.0 s",
            "fetch",
        ]
        assert waiting() == {}

    async def test_the_calls_of_a_recursive_function_are_told_apart(self, caplog):
        """Each has its own line: the outer one its caller's, the inner ones the recursion's."""

        @impatient(log_after=5, log_completion="never")
        async def descend(depth):
            if depth:
                await descend(depth - 1)
            else:
                await asyncio.sleep(6)

        async def crawl():
            await descend(2)

        await crawl()

        recursion = at(descend, "depth - 1")
        assert [text.partition(" s at ")[2].partition(";")[0] for _, text in messages(caplog)] == [
            at(crawl, "await descend"),
            recursion,
            recursion,
        ]


@virtual
class TestNobodyAwaits:
    """A decorated function that is a task of its own has no awaiter: the place is the function itself."""

    @pytest.mark.parametrize(
        ("call", "name", "function"),
        [
            (lambda: fetch(6), "fetch", fetch),
            (lambda: Client().get(6), "Client.get", Client.__dict__["get"]),
            (lambda: Client.connect(6), "Client.connect", Client.__dict__["connect"].__func__),
            (lambda: Client().resolve(6), "Client.resolve", Client.__dict__["resolve"].__func__),
            (lambda: impatient(log_after=5)(functools.partial(give_late, 6))(), "give_late", None),
            (lambda: impatient(log_after=5)(Client())(6), "Client", Client.__call__),
            (lambda: impatient(log_after=5)(Client().__call__)(6), "Client.__call__", Client.__call__),
            (lambda: impatient(log_after=5)(async_plus.supervised(give_late))(6), "give_late", None),
            (lambda: impatient(log_after=5)(async_plus.supervised(Keeper().keep))(6), "Keeper.keep", "keep"),
        ],
        ids=["function", "method", "class", "static", "partial", "object", "bound", "stacked", "stacked method"],
    )
    async def test_the_place_is_where_the_function_begins(self, call, name, function, caplog):
        """Whatever was decorated, it is the code that the user wrote."""
        function = Keeper.keep if function == "keep" else function or give_late
        await asyncio.create_task(call())

        texts = [text for level, text in messages(caplog) if level == "WARNING"]
        assert [text.partition(";")[0] for text in texts] == [
            f"Still waiting for {name} after 5.0 s at {first_line(function)}",
            f"{name} at {first_line(function)} returned after 6.0 s",
        ]

    async def test_a_launched_function_is_placed_at_itself_too(self, caplog):
        """@watched over @impatient: the task has no awaiter inside."""
        task = async_plus.watched(fetch)(6)
        await task

        assert messages(caplog)[0][1] == (
            f"Still waiting for fetch after 5.0 s at {first_line(fetch)}; parked at {SLEEP} on sleep, 1.0 s left"
        )

    async def test_what_has_no_code_of_the_user_is_placed_at_its_task(self, caplog):
        """A mock runs in a file of the standard library: only the task can be named."""
        decorated = impatient(log_after=5)(unittest.mock.AsyncMock(side_effect=give_late))
        task = await start(decorated(6), name="background")
        await task

        assert messages(caplog) == [
            (
                "WARNING",
                "Still waiting for AsyncMock after 5.0 s in task 'background';"
                f" parked at {at(give_late, 'asyncio.sleep')} on sleep, 1.0 s left",
            ),
            ("WARNING", "AsyncMock in task 'background' returned after 6.0 s"),
        ]


async def give_late(seconds):
    await asyncio.sleep(seconds)


class Keeper:
    async def keep(self, seconds):
        await asyncio.sleep(seconds)


class TestCalls:
    """The decorated function stays a coroutine function whose calls run inline."""

    async def test_it_runs_in_the_task_and_context_of_its_caller(self):
        """What it sets in the context is seen afterwards."""
        user = contextvars.ContextVar("user")

        @impatient(log_after=5)
        async def log_in(name):
            user.set(name)
            return asyncio.current_task()

        assert await log_in("ann") is asyncio.current_task()
        assert user.get() == "ann"

    async def test_a_call_returns_a_coroutine_with_the_functions_name(self):
        """As that of the function itself, in tracebacks and in Python's warnings."""
        coroutine = fetch(0, "page")

        assert type(coroutine) is types.CoroutineType
        assert (coroutine.__name__, coroutine.__qualname__) == ("fetch", "fetch")
        assert await coroutine == "page"

    async def test_one_decorator_serves_many_functions(self):
        """The result of impatient() may be kept and used again and again, also while calls run."""
        patient = impatient(log_after=5)
        double = patient(functools.partial(give, 2))
        triple = patient(functools.partial(give, 3))

        assert await asyncio.gather(double(), triple(), double()) == [2, 3, 2]

    async def test_a_call_that_is_cancelled_before_its_first_step_calls_nothing(self):
        """The function was never entered, so there is nothing unawaited."""
        called = []

        @impatient(log_after=5)
        async def work():
            called.append(1)

        task = asyncio.Task(work())
        task.cancel()
        await asyncio.wait([task])

        assert (task.cancelled(), called) == (True, [])

    async def test_wrong_arguments_are_a_type_error_and_no_wait(self, caplog):
        """Python's own error, with nothing in the register or the log."""
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'seconds'"):
            await log_in()

        assert (messages(caplog), registers()) == ([], {})

    async def test_it_needs_a_task(self):
        """Stepped by hand in a callback it says so, and leaves no coroutine behind."""
        [seen] = futures(1)
        made = []

        def remember(coroutine):
            made.append(coroutine)
            return coroutine

        @impatient(log_after=5)
        @async_plus._coroutines.mark_coroutine_function
        def work():
            return remember(forever())

        def step():
            try:
                work().send(None)
            except RuntimeError as exc:
                seen.set_result(str(exc))

        asyncio.get_running_loop().call_soon(step)

        assert await seen == "impatient must be awaited in a task"
        assert closed(made[0])

    @pytest.mark.parametrize("error", [Boom, asyncio.CancelledError])
    async def test_an_exception_makes_no_reference_cycle(self, error):
        """It dies with its last reference, and the task of the call with it (gh-124958)."""

        @impatient(log_after=5)
        async def work():
            await asyncio.sleep(0)
            raise error

        with no_garbage():
            task = asyncio.create_task(work())
            await asyncio.gather(task, return_exceptions=True)
            dead = weakref.ref(task)
            del task
            await turns()
            assert dead() is None

    async def test_closing_a_waiting_call_ends_the_wait_without_a_record(self, caplog):
        """As with a plain coroutine, GeneratorExit goes through."""

        @impatient(log_completion="always")
        async def work():
            await forever()

        coroutine = work()
        coroutine.send(None)
        coroutine.close()
        gc.collect()

        assert messages(caplog) == []
        assert waiting() == {}

    async def test_stacked_with_supervised_each_attempt_is_a_wait(self, caplog, virtual_clock):
        """@supervised over @impatient: the attempt is a task, so its place is the function itself."""

        @async_plus.supervised(delays=[1], max_restarts=1)
        @impatient(log_after=5)
        async def feed():
            await asyncio.sleep(6)
            raise Boom

        task = await start(feed())
        await asyncio.gather(task, return_exceptions=True)

        texts = [text for _, text in messages(caplog) if text.startswith("Still waiting")]
        text = (
            f"Still waiting for {feed.__qualname__} after 5.0 s at {first_line(feed)};"
            f" parked at {at(feed, 'asyncio.sleep')} on sleep, 1.0 s left"
        )
        assert texts == [text, text]
