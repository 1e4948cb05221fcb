"""The checks of arguments: what they let pass, and the whole text of each refusal."""

from __future__ import annotations

import datetime
import decimal
import fractions
import functools
import inspect
import math
import types
import unittest.mock

import pytest
from tools import Numberlike

import async_plus
from async_plus import _checks


class Secret:
    """Something whose text must never be printed."""

    def __repr__(self):
        raise AssertionError("repr() of a user's object was taken")

    __str__ = __repr__


class Convertible:
    """What a truth value, an array or a span of time of numpy's looks like from here: a float, but no number."""

    def __float__(self):
        return 1.0


class Feed:
    def poll(self, event):
        pass

    async def apoll(self, event):
        pass


class AsyncCallable:
    async def __call__(self, event):
        pass


class SyncCallable:
    def __call__(self, event):
        pass


async def fetch(url):
    pass


@types.coroutine
def stay():
    yield


async def stream(event):
    yield event


def handle(event):
    pass


def refusal(check, *args, **options):
    """Return what *check* says to the user."""
    with pytest.raises((TypeError, ValueError)) as caught:
        check(*args, **options)
    return f"{type(caught.value).__name__}: {caught.value}"


class TestSeconds:
    @pytest.mark.parametrize(
        ("value", "number"),
        [
            (0, 0.0),
            (5, 5.0),
            (0.25, 0.25),
            (decimal.Decimal("1.5"), 1.5),
            (fractions.Fraction(1, 4), 0.25),
            (Numberlike(3), 3.0),
        ],
    )
    def test_every_kind_of_number_is_taken_and_becomes_a_float(self, value, number):
        """Numbers of other libraries too, as they are registered for what they are."""
        seconds = _checks.seconds("delay", value)

        assert (seconds, type(seconds)) == (number, float)

    @pytest.mark.parametrize(
        ("value", "got"),
        [
            ("5", "str"),
            (None, "NoneType"),
            (True, "bool True"),
            (1j, "complex"),
            (Convertible(), "Convertible"),
            (float, "the class float"),
            (Secret(), "Secret"),
            (fetch, "the function fetch (call it)"),
            (datetime.timedelta(seconds=5), "timedelta (use its total_seconds())"),
        ],
    )
    def test_what_is_no_number_is_refused(self, value, got):
        """A text, a bool or a timedelta is a mistake, answered with the name of the parameter and the likely fix."""
        assert refusal(_checks.seconds, "delay", value) == f"TypeError: delay must be a number of seconds, got {got}"

    @pytest.mark.parametrize(
        ("value", "got"),
        [
            (-1, "-1"),
            (-0.001, "-0.001"),
            (math.nan, "nan"),
            (decimal.Decimal("sNaN"), "nan"),
            (math.inf, "inf"),
            (-math.inf, "-inf"),
            (10**400, "inf"),
        ],
    )
    def test_numbers_that_are_no_time_are_refused(self, value, got):
        """Negative, NaN and infinite seconds are refused, and whole numbers beyond all floats with them."""
        assert refusal(_checks.seconds, "delay", value) == (
            f"ValueError: delay must be a finite number of seconds >= 0, got {got}"
        )

    def test_zero_is_refused_where_it_makes_no_sense(self):
        """A parameter may ask for more than zero, and its refusal says so."""
        assert refusal(_checks.seconds, "log_after", 0, above_zero=True) == (
            "ValueError: log_after must be a finite number of seconds > 0, got 0"
        )
        assert _checks.seconds("log_after", 1e-9, above_zero=True) == 1e-9


class TestCount:
    @pytest.mark.parametrize(("value", "number"), [(1, 1), (10**30, 10**30), (Numberlike(4), 4)])
    def test_whole_numbers_are_taken(self, value, number):
        """So are those of other libraries, which are none of int's."""
        counted = _checks.count("limit", value, least=1)

        assert (counted, type(counted)) == (number, int)

    @pytest.mark.parametrize(
        ("value", "got"),
        [(1.0, "float 1.0"), (True, "bool True"), ("3", "str"), (None, "NoneType"), (int, "the class int")],
    )
    def test_what_is_no_whole_number_is_refused(self, value, got):
        """A float is refused even if it is whole, a bool even though Python counts with it."""
        assert refusal(_checks.count, "limit", value, least=1) == f"TypeError: limit must be a whole number, got {got}"

    @pytest.mark.parametrize("value", [0, -3])
    def test_too_small_a_number_is_refused(self, value):
        """The refusal tells the least that is allowed, and what was given."""
        assert refusal(_checks.count, "limit", value, least=1) == f"ValueError: limit must be at least 1, got {value}"

    def test_one_of_more_digits_than_python_writes_is_refused_all_the_same(self):
        """By default it writes 4300."""
        assert _checks.kind(10**5000) == "int ..."
        assert refusal(_checks.count, "limit", -(10**5000), least=1) == (
            "ValueError: limit must be at least 1, got -..."
        )


class TestOneOf:
    def test_a_word_of_the_list_is_taken(self):
        """Exactly the words offered are valid."""
        assert _checks.one_of("restart", "never", ("always", "never")) is None

    @pytest.mark.parametrize(
        ("value", "got"), [("Always", "'Always'"), ("", "''"), (None, "NoneType"), (Secret(), "Secret"), ([], "list")]
    )
    def test_anything_else_is_refused_with_the_words_to_choose_from(self, value, got):
        """A misspelt word is shown; an object is named by its type."""
        assert refusal(_checks.one_of, "restart", value, ("always", "never")) == (
            f"ValueError: restart must be one of 'always', 'never', got {got}"
        )

    def test_an_object_that_cannot_be_compared_is_refused_like_any_other(self):
        """An array answers == with an array, whose truth nobody knows. It is not asked."""

        class Array:
            def __eq__(self, other):
                raise ValueError("the truth value of an array is ambiguous")

            __hash__ = None

        assert refusal(_checks.one_of, "restart", Array(), ("always",)) == (
            "ValueError: restart must be one of 'always', got Array"
        )


class TestCallback:
    @pytest.mark.parametrize(
        "value",
        [
            handle,
            lambda event: None,
            functools.partial(handle),
            Feed().poll,
            SyncCallable(),
            [].append,
            print,
            Secret,
            unittest.mock.Mock(),
            async_plus.watched(fetch),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_what_can_be_called_synchronously_is_taken(self, value):
        """Functions, methods, partials, builtins, classes, callable objects, and @watched, which only starts a task."""
        assert _checks.callback("callback", value, "taking an event") is None

    @pytest.mark.parametrize(
        ("value", "got"), [(None, "NoneType"), (5, "int 5"), ("handle", "str"), (Secret(), "Secret")]
    )
    def test_what_cannot_be_called_is_refused(self, value, got):
        """The refusal tells what the callable would be given."""
        assert refusal(_checks.callback, "callback", value, "taking an event") == (
            f"TypeError: callback must be a callable taking an event, got {got}"
        )

    @pytest.mark.parametrize(
        ("value", "what"),
        [
            (fetch, "the function fetch"),
            (stream, "the function stream"),
            (functools.partial(functools.partial(fetch), "x"), "the function fetch"),
            (Feed().apoll, "the function Feed.apoll"),
            (AsyncCallable(), "AsyncCallable"),
            (functools.partial(AsyncCallable()), "AsyncCallable"),
            (async_plus.supervised(fetch), "the function fetch"),
            (unittest.mock.AsyncMock(), "the function AsyncMock"),
        ],
    )
    def test_what_would_only_make_a_coroutine_is_refused(self, value, what):
        """Called without await it would do nothing, so it is refused at once, whatever wraps it."""
        assert refusal(_checks.callback, "callback", value, "taking an event") == (
            f"TypeError: callback must be synchronous, but {what} is async (launch a task inside it instead)"
        )


class TestKind:
    @pytest.mark.parametrize(
        ("value", "named"),
        [
            (fetch, "the function fetch (call it)"),
            (functools.partial(fetch, "https://secret"), "the function fetch (call it)"),
            (AsyncCallable().__call__, "the function AsyncCallable.__call__ (call it)"),
            (handle, "the function handle"),
            (print, "the function print"),
            (Feed.poll, "the function Feed.poll"),
            (Secret, "the class Secret"),
            (Secret(), "Secret"),
            ("a password", "str"),
            (["a password"], "list"),
            (5, "int 5"),
            (2.5, "float 2.5"),
            (None, "NoneType"),
        ],
    )
    def test_a_thing_is_named_without_its_text(self, value, named):
        """An error names what it got by function, class and type. Only numbers are shown, never a text or a repr."""
        assert _checks.kind(value) == named

    def test_a_coroutine_is_closed_unless_it_has_started(self):
        """It is named because it is refused, so nobody will await it. Whoever has started one may go on with it."""

        async def park():
            await stay()

        fresh, started = fetch("x"), park()
        started.send(None)

        assert [_checks.kind(coro) for coro in (fresh, started)] == ["coroutine", "coroutine"]
        assert inspect.getcoroutinestate(fresh) == inspect.CORO_CLOSED
        assert inspect.getcoroutinestate(started) == inspect.CORO_SUSPENDED
        started.close()


@pytest.mark.parametrize(
    "refuse",
    [
        lambda coro: async_plus.RetryDelayer([coro]),
        lambda coro: async_plus.RetryDelayer(coro),
        lambda coro: async_plus.subscribe(coro),
        lambda coro: async_plus.supervised(delays=coro),
        lambda coro: async_plus.supervised(heartbeat=coro),
        lambda coro: async_plus.supervised(name=coro),
        lambda coro: async_plus.supervised(on=coro),
        lambda coro: async_plus.supervised(max_restarts=coro),
        lambda coro: async_plus.supervised(restart=coro),
        lambda coro: async_plus.task_scope(drain=coro),
        lambda coro: async_plus.watched(on_exception=coro),
        lambda coro: async_plus.impatient(log_after=coro),
        lambda coro: async_plus.Supervisor(name=coro),
    ],
)
def test_a_coroutine_is_no_option_and_is_closed(refuse):
    """An "await" or a pair of parentheses too many: the error is enough, and no warning follows."""
    coro = fetch("x")

    with pytest.raises((TypeError, ValueError)):
        refuse(coro)

    assert inspect.getcoroutinestate(coro) == inspect.CORO_CLOSED
