"""What `impatient` refuses: one clear error that names the parameter, and nothing left unawaited."""

from __future__ import annotations

import asyncio
import fractions
import functools
import logging
import sys
import threading
import weakref

import hypothesis
import hypothesis.strategies as st
import pytest
from tools import Lookalike, Numberlike, closed, forever, futures, give, no_garbage, refused, start, turns
from waits import waiting

from async_plus import impatient
from async_plus.engine import patience


async def fetch(url):
    return url


def fetch_now(url):
    return url


class Session:
    async def get(self):
        """Get."""

    async def __call__(self):
        """Call."""


async def pages():
    yield 1


NO_NUMBER = "log_after must be a number of seconds, got "
NOT_FINITE = "log_after must be a finite number of seconds > 0, got "
MISSING = "log_after is missing: the number of seconds after which a wait is long"
WORDS = "log_completion must be one of 'never', 'after_long_wait', 'always', got "

OPTIONS = [
    ({}, ValueError, MISSING),
    ({"log_after": None}, ValueError, MISSING),
    ({"log_completion": "never"}, ValueError, MISSING),
    ({"log_completion": "after_long_wait"}, ValueError, MISSING),
    ({"log_after": 0}, ValueError, NOT_FINITE + "0"),
    ({"log_after": -0.0}, ValueError, NOT_FINITE + "-0"),
    ({"log_after": -5}, ValueError, NOT_FINITE + "-5"),
    ({"log_after": float("nan")}, ValueError, NOT_FINITE + "nan"),
    ({"log_after": float("inf")}, ValueError, NOT_FINITE + "inf"),
    ({"log_after": float("-inf")}, ValueError, NOT_FINITE + "-inf"),
    ({"log_after": 10**400}, ValueError, NOT_FINITE + "inf"),
    ({"log_after": "5"}, TypeError, NO_NUMBER + "str"),
    ({"log_after": True}, TypeError, NO_NUMBER + "bool True"),
    ({"log_after": [5]}, TypeError, NO_NUMBER + "list"),
    ({"log_after": ([5],)}, TypeError, NO_NUMBER + "tuple"),
    ({"log_after": 5j}, TypeError, NO_NUMBER + "complex"),
    ({"log_after": 5, "log_completion": "sometimes"}, ValueError, WORDS + "'sometimes'"),
    ({"log_after": 5, "log_completion": "Always"}, ValueError, WORDS + "'Always'"),
    ({"log_after": 5, "log_completion": ""}, ValueError, WORDS + "''"),
    ({"log_after": 5, "log_completion": None}, ValueError, WORDS + "NoneType"),
    ({"log_after": 5, "log_completion": True}, ValueError, WORDS + "bool True"),
    ({"log_after": 5, "log_completion": ["always"]}, ValueError, WORDS + "list"),
    ({"log_after": 5, "log_level": "WARNING"}, TypeError, "log_level must be a whole number, got str"),
    ({"log_after": 5, "log_level": 10.0}, TypeError, "log_level must be a whole number, got float 10.0"),
    ({"log_after": 5, "log_level": -1}, ValueError, "log_level must be at least 0, got -1"),
    ({"log_after": 5, "log_level": {}}, TypeError, "log_level must be a whole number, got dict"),
    ({"log_after": 5, "stacklevel": None}, TypeError, "stacklevel must be a whole number, got NoneType"),
    ({"log_after": 5, "stacklevel": 1.0}, TypeError, "stacklevel must be a whole number, got float 1.0"),
    ({"log_after": 5, "stacklevel": False}, TypeError, "stacklevel must be a whole number, got bool False"),
    ({"log_after": 5, "stacklevel": -1}, ValueError, "stacklevel must be at least 0, got -1"),
    ({"log_after": 5, "name": 5}, TypeError, "name must be a string, got int 5"),
    ({"log_after": 5, "name": fetch}, TypeError, "name must be a string, got the function fetch (call it)"),
]


class TestOptions:
    """Each is checked at the call, before anything is awaited, entered or decorated."""

    @pytest.mark.parametrize(("options", "kind", "message"), OPTIONS)
    def test_a_wrong_option_is_refused_and_the_coroutine_closed(self, options, kind, message):
        """The error stands alone; Python does not add that the coroutine was never awaited."""
        coroutine = fetch("/")

        with pytest.raises(kind) as caught:
            impatient(coroutine, **options)

        assert (type(caught.value), str(caught.value)) == (kind, message)
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
        assert closed(coroutine)

    @pytest.mark.parametrize(("options", "kind", "message"), OPTIONS)
    def test_a_block_or_decorator_refuses_it_at_the_same_moment(self, options, kind, message):
        """A decorator at import, not at the first call."""
        with refused(kind, message):
            impatient(**options)

    @pytest.mark.parametrize(("options", "kind", "message"), OPTIONS)
    def test_what_was_accepted_before_changes_nothing(self, options, kind, message):
        """1, 1.0 and True are equal, but not alike; what was checked is remembered by its type too."""
        for accepted in (1, 1.0, 5, 5.0, 10):
            for other in ({}, {"log_level": 1}, {"log_level": 0, "stacklevel": 1}, {"log_completion": "always"}):
                impatient(log_after=accepted, **other)

        with refused(kind, message):
            impatient(**options)

    def test_a_coroutine_of_another_kind_is_closed_too(self):
        """One that only looks like Python's own, as Cython's do."""
        coroutine = fetch("/")

        with refused(ValueError, MISSING):
            impatient(Lookalike(coroutine))

        assert closed(coroutine)

    async def test_a_task_given_in_is_left_alone(self):
        """It is running, and belongs to somebody else."""
        task = await start(forever())

        with refused(ValueError, MISSING):
            impatient(task)

        assert not task.done()
        assert not task.cancelling()
        task.cancel()
        await asyncio.wait([task])

    @pytest.mark.parametrize("seconds", [5, 5.5, fractions.Fraction(11, 2), sys.float_info.min, sys.float_info.max])
    async def test_any_finite_number_above_zero_is_accepted(self, seconds):
        """Whatever has a float value."""
        assert await impatient(fetch("/"), log_after=seconds) == "/"
        assert waiting() == {}

    @pytest.mark.parametrize("level", [None, 0, logging.DEBUG, logging.CRITICAL, 55])
    async def test_any_level_is_accepted(self, level):
        """Own levels between those of the standard library too."""
        assert await impatient(fetch("/"), log_after=5, log_level=level) == "/"

    @pytest.mark.virtual_time
    async def test_whole_numbers_of_other_libraries_are_accepted(self, caplog):
        """They are taken for the numbers that they stand for, when the time comes to use them."""
        await impatient(asyncio.sleep(6), log_after=Numberlike(5), log_level=Numberlike(30), stacklevel=Numberlike(0))

        assert [record.levelno for record in caplog.records] == [30, 30]

    def test_options_are_given_by_name(self):
        """So that impatient(fetch(), 5) is not taken for something it is not."""
        coroutine = fetch("/")

        with pytest.raises(TypeError, match="positional argument"):
            impatient(coroutine, 5)
        coroutine.close()

    @hypothesis.given(st.floats() | st.integers() | st.booleans() | st.none())
    def test_any_number_is_taken_or_refused_alike_each_time(self, log_after):
        """By the same rule, whatever was remembered from calls before."""
        good = type(log_after) in (int, float) and 0 < log_after <= sys.float_info.max

        for _ in range(2):
            if good:
                impatient(log_after=log_after)
            else:
                with pytest.raises((TypeError, ValueError), match=r"^log_after "):
                    impatient(log_after=log_after)

    def test_what_is_remembered_of_options_is_limited(self):
        """A computed log_after does not fill the memory."""
        for number in range(3 * patience._REMEMBERED):
            impatient(log_after=1 + number / 7)
            impatient(log_after=1 + number / 7, log_level=10)

        assert len(patience.USUAL) <= patience._REMEMBERED
        assert patience._check.cache_info().currsize <= patience._REMEMBERED


TAKES = "impatient() takes an awaitable, got "
OR_DECORATE = ", or decorate with @impatient(log_after=...)"


class TestAwaitable:
    """What cannot be awaited is refused at the call, by a TypeError that says what it is and the likely fix."""

    @pytest.mark.parametrize(
        ("given", "got"),
        [
            (5, "int 5"),
            (5.5, "float 5.5"),
            (None, "NoneType"),
            ("fetch", "str"),
            (fetch, "the function fetch (call it)" + OR_DECORATE),
            (impatient(log_after=5)(fetch), "the function fetch (call it)" + OR_DECORATE),
            (fetch_now, "the function fetch_now"),
            (Session().get, "the function Session.get (call it)" + OR_DECORATE),
            (Session, "the class Session"),
            (Session(), "Session"),
            (functools.partial(fetch, "/"), "the function fetch (call it)" + OR_DECORATE),
            (len, "the function len"),
        ],
        ids=lambda value: str(value).partition(" at 0x")[0],
    )
    @pytest.mark.parametrize("options", [{}, {"log_after": 5}, {"log_after": -1}, {"log_completion": "wrong"}])
    def test_it_is_named_by_its_kind(self, given, got, options):
        """Whatever the options: a bare @impatient, impatient(5) and impatient(fetch, log_after=5) all say so first."""
        with refused(TypeError, TAKES + got):
            impatient(given, **options)

    def test_a_bare_decorator_is_refused_with_the_fix(self):
        """`log_after` has no default that would fit everybody."""
        work = f"{__class__.__name__}.test_a_bare_decorator_is_refused_with_the_fix.<locals>.work"

        with refused(TypeError, f"{TAKES}the function {work} (call it){OR_DECORATE}"):

            @impatient
            async def work():
                """Work."""

    def test_an_async_generator_is_refused(self):
        """It is iterated, not awaited."""
        with refused(TypeError, TAKES + "async_generator"):
            impatient(pages(), log_after=5)

    def test_the_coroutines_in_a_list_are_closed(self):
        """Who means several wants a gather; nothing is left unawaited."""
        coroutines = [fetch("/a"), fetch("/b")]

        with refused(TypeError, TAKES + "list"):
            impatient(coroutines, log_after=5)

        assert all(map(closed, coroutines))


class TestAwaitedBefore:
    """A coroutine can be awaited once. This error says which parameter it was."""

    async def test_a_coroutine_that_has_ended_is_refused(self):
        """When it is awaited."""
        coroutine = fetch("/")
        await coroutine

        with pytest.raises(ValueError, match=r"^aw was awaited or closed before: coroutine fetch$") as caught:
            await impatient(coroutine, log_after=5)

        assert caught.value.__suppress_context__
        assert waiting() == {}

    async def test_a_coroutine_that_was_closed_is_refused(self):
        """It never ran, and never will."""
        coroutine = fetch("/")
        coroutine.close()

        with refused(ValueError, "aw was awaited or closed before: coroutine fetch"):
            await impatient(coroutine, log_after=5)

    async def test_a_coroutine_that_somebody_else_awaits_is_refused_and_left_alone(self):
        """Whoever awaits it goes on."""
        [gate] = futures(1)

        async def ask():
            return await gate

        coroutine = ask()
        task = await start(coroutine)

        with refused(ValueError, f"aw was awaited or closed before: coroutine {ask.__qualname__}"):
            await impatient(coroutine, log_after=5)

        gate.set_result("answer")
        assert await task == "answer"

    async def test_the_refusal_is_no_wait(self, caplog):
        """Nothing is logged, even if every completion is."""
        caplog.set_level(logging.DEBUG, logger="async_plus")
        coroutine = fetch("/")
        await coroutine

        with pytest.raises(ValueError, match=r"^aw was awaited"):
            await impatient(coroutine, log_completion="always")

        assert caplog.records == []

    async def test_the_refusal_makes_no_reference_cycle(self):
        """The task that was refused dies with its last reference."""
        coroutine = fetch("/")
        await coroutine

        async def again():
            # An eager task that fails in its first step is in a cycle of asyncio's own.
            await asyncio.sleep(0)
            await impatient(coroutine, log_after=5)

        with no_garbage():
            task = asyncio.create_task(again())
            await asyncio.gather(task, return_exceptions=True)
            dead = weakref.ref(task)
            del task
            await turns()
            assert dead() is None

    async def test_the_same_coroutine_given_twice_is_refused_the_second_time(self):
        """Each call takes it; only the first await gets it."""
        coroutine = fetch("/")
        first, second = impatient(coroutine, log_after=5), impatient(coroutine, log_after=5)

        assert await first == "/"
        with refused(ValueError, "aw was awaited or closed before: coroutine fetch"):
            await second

    async def test_a_lookalike_that_was_awaited_is_refused_at_the_call(self):
        """As far as it tells."""

        inner = give(1)
        ended = Lookalike(inner)
        ended.cr_frame = ended.cr_await = None

        with refused(ValueError, "aw was awaited or closed before: coroutine Lookalike"):
            impatient(ended, log_after=5)

        inner.close()


class TestForeign:
    """Futures of another loop, and the current task, cannot be waited for."""

    async def test_a_future_of_another_loop_is_refused(self):
        """When it is awaited, because only then is it certain which loop runs."""
        loop = asyncio.new_event_loop()
        future = loop.create_future()

        with refused(ValueError, "the awaited future belongs to another event loop"):
            await impatient(future, log_after=5)

        assert waiting() == {}
        loop.close()

    async def test_a_task_of_another_loop_is_refused_and_left_alone(self):
        """It goes on in its own loop."""
        ready, over, results = threading.Event(), threading.Event(), []

        def elsewhere():
            async def main():
                tasks.append(asyncio.current_task())
                ready.set()
                await asyncio.to_thread(over.wait)
                return "done"

            results.append(asyncio.run(main()))

        tasks = []
        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(ready.wait)

        with refused(ValueError, "the awaited future belongs to another event loop"):
            await impatient(tasks[0], log_after=5)

        over.set()
        await asyncio.to_thread(thread.join)
        assert results == ["done"]

    async def test_the_current_task_is_refused(self):
        """It would wait for itself for ever."""
        with refused(RuntimeError, "the awaited future is the current task, which cannot wait for itself"):
            await impatient(asyncio.current_task(), log_after=5)

        assert waiting() == {}

    def test_without_a_running_loop_it_cannot_be_awaited(self):
        """Stepped by hand; the coroutine inside is closed."""
        inner = fetch("/")

        with refused(RuntimeError, "no running event loop"):
            impatient(inner, log_after=5).send(None)

        assert closed(inner)

    def test_it_may_be_called_without_a_running_loop(self):
        """To be given to asyncio.run()."""
        assert asyncio.run(impatient(fetch("/"), log_after=5)) == "/"


class TestDecorated:
    """Only coroutine functions can be decorated. (All kinds of the others: test_decorators.py.)"""

    @pytest.mark.parametrize(
        ("given", "why"),
        [
            (fetch_now, 'fetch_now is a plain function (is "async" missing before "def"?)'),
            (
                pages,
                "pages is an async generator function (decorate the coroutine function that iterates over it)",
            ),
            (Session, "Session is a class (decorate its async methods)"),
        ],
    )
    def test_anything_else_is_refused_at_the_decoration(self, given, why):
        """With what it is, and the likely fix."""
        with refused(TypeError, f"@impatient needs a coroutine function, but {why}"):
            impatient(log_after=5)(given)

    def test_a_coroutine_is_refused_and_closed(self):
        """The function was called where it should have been passed."""
        coroutine = fetch("/")

        with refused(
            TypeError,
            "@impatient needs a coroutine function, but fetch is a coroutine object"
            " (pass the function itself, without calling it)",
        ):
            impatient(log_after=5)(coroutine)

        assert closed(coroutine)
