"""The options of @supervised: what they allow, and which failure calls for a restart."""

from __future__ import annotations

import asyncio
import dataclasses
import decimal
import functools
import itertools
import math
import unittest.mock

import pytest
from tools import Numberlike

from async_plus import supervised
from async_plus.supervision.policy import Policy, declared


class MovedError(Exception):
    pass


class Truth:
    """What a truth value of numpy's looks like: no bool, but it has a float."""

    def __float__(self):
        return 0.0


class MovedGroup(ExceptionGroup):
    pass


class Odd(BaseException):
    """An exception that is no Exception."""


class HttpError(Exception):
    def __init__(self, retry_after):
        self.retry_after = retry_after


EXITS = [SystemExit, KeyboardInterrupt, GeneratorExit]


def refusal(error, **options):
    """Return what @supervised says to these options, which the policy says as well."""
    with pytest.raises(error) as caught:
        supervised(**options)
    with pytest.raises(error) as direct:
        Policy(**options)
    assert (type(caught.value), str(caught.value)) == (error, str(direct.value))
    return str(caught.value)


class TestOptions:
    def test_the_defaults_suit_a_service(self):
        """At once, then after 1, 10 and 60 seconds; any Exception; without limit."""
        policy = Policy()

        assert dataclasses.asdict(policy) == {
            "delays": (0, 1, 10, 60),
            "random_shift": 0,
            "reset_after": 60,
            "on": Exception,
            "restart": "on_error",
            "max_restarts": None,
            "heartbeat": None,
            "ready": False,
            "name": None,
            "_types": (Exception,),
        }

    def test_a_policy_cannot_be_changed(self):
        """All calls of a function share it."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            Policy().max_restarts = 5

    @pytest.mark.parametrize("delays", [[1, 2], (1, 2), {1: "a", 2: "b"}, iter([1, 2]), range(1, 3)])
    def test_delays_are_any_iterable_and_made_a_tuple_at_once(self, delays):
        """A generator is used up when the policy is made; a list may be changed later without effect."""
        policy = Policy(delays=delays)

        assert policy.delays == (1.0, 2.0)

    @pytest.mark.parametrize(
        ("options", "seconds"),
        [
            ({}, 60),
            ({"delays": [0]}, 60),
            ({"delays": [0, 59.9]}, 60),
            ({"delays": [0, 300, 5]}, 300),
            ({"delays": [0, 300], "reset_after": 7}, 7),
            ({"reset_after": 0}, 0),
        ],
    )
    def test_a_stable_run_is_as_long_as_the_longest_delay_and_60_seconds_at_least(self, options, seconds):
        """With delays=[0] alone, every run would be stable, and max_restarts never reached."""
        policy = Policy(**options)

        assert policy.reset_after == seconds
        assert (policy.is_stable(seconds), policy.is_stable(math.nextafter(seconds, math.inf))) == (False, True)

    def test_a_whole_number_of_another_library_becomes_one_of_pythons(self):
        """It is compared and shown as such."""
        assert type(Policy(max_restarts=Numberlike(2)).max_restarts) is int

    def test_each_schedule_has_its_own_place_in_the_delays(self):
        """Two calls of one function count their failures apart. The last delay repeats."""
        policy = Policy(delays=[1, 2])
        one, other = policy.schedule(), policy.schedule()

        assert [one.next(), one.next(), one.next(), other.next()] == [1, 2, 2, 1]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"delays": 5}, "delays must be an iterable of seconds, got int 5"),
            ({"delays": "10"}, "delays must be an iterable of seconds, got str"),
            ({"delays": [0, "1"]}, "delays[1] must be a number of seconds, got str"),
            ({"random_shift": None}, "random_shift must be a number of seconds, got NoneType"),
            ({"reset_after": "60"}, "reset_after must be a number of seconds, got str"),
            ({"max_restarts": 2.5}, "max_restarts must be a whole number, got float 2.5"),
            ({"max_restarts": True}, "max_restarts must be a whole number, got bool True"),
            ({"name": 5}, "name must be a string, got int 5"),
            ({"name": MovedError}, "name must be a string, got the class MovedError"),
        ],
    )
    def test_the_wrong_kind_of_thing_is_a_type_error(self, options, message):
        """At decoration, with the name of the option and what was given."""
        assert refusal(TypeError, **options) == message

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"delays": []}, "delays must not be empty: [0] restarts at once, for ever"),
            ({"delays": [0, -1]}, "delays[1] must be a finite number of seconds >= 0, got -1"),
            ({"delays": [math.nan]}, "delays[0] must be a finite number of seconds >= 0, got nan"),
            ({"delays": [1, math.inf]}, "delays[1] must be a finite number of seconds >= 0, got inf"),
            ({"random_shift": -0.5}, "random_shift must be a finite number of seconds >= 0, got -0.5"),
            ({"random_shift": math.nan}, "random_shift must be a finite number of seconds >= 0, got nan"),
            ({"reset_after": -1}, "reset_after must be a finite number of seconds >= 0, got -1"),
            ({"reset_after": math.inf}, "reset_after must be a finite number of seconds >= 0, got inf"),
            ({"restart": "allways"}, "restart must be one of 'on_error', 'always', 'never', got 'allways'"),
            ({"restart": True}, "restart must be one of 'on_error', 'always', 'never', got bool True"),
            ({"restart": None}, "restart must be one of 'on_error', 'always', 'never', got NoneType"),
            ({"max_restarts": -1}, "max_restarts must be at least 0, got -1"),
        ],
    )
    def test_a_bad_value_is_a_value_error(self, options, message):
        """At decoration, with the name of the option and the value."""
        assert refusal(ValueError, **options) == message


class TestOn:
    @pytest.mark.parametrize(
        ("on", "message"),
        [
            (None, "on must be an exception type, a tuple of them, or a function of the exception, got NoneType"),
            (
                [OSError, ValueError],
                "on must be an exception type, a tuple of them, or a function of the exception, got list",
            ),
            ("OSError", "on must be an exception type, a tuple of them, or a function of the exception, got str"),
            (
                OSError("a secret"),
                "on must be an exception type, a tuple of them, or a function of the exception, "
                "got OSError object (name its type)",
            ),
            (int, "on must name exception types, got the class int"),
            ((OSError, "ValueError"), "on must name exception types, got str"),
            ((OSError, ValueError("a secret")), "on must name exception types, got ValueError object (name its type)"),
            ((OSError, (ValueError,)), "on must name exception types, got tuple"),
            (ExceptionGroup[ValueError], "on must name exception types, got GenericAlias"),
            ((ExceptionGroup[ValueError],), "on must name exception types, got GenericAlias"),
        ],
    )
    def test_the_wrong_kind_of_thing_is_a_type_error(self, on, message):
        """What is neither type, tuple of types nor function is refused, and named without its text."""
        assert refusal(TypeError, on=on) == message

    def test_an_async_function_is_refused(self):
        """Nobody could await its answer in time."""

        async def ask(exc):
            return True

        function = "TestOn.test_an_async_function_is_refused.<locals>.ask"
        assert refusal(TypeError, on=functools.partial(ask)) == (
            f"on must be synchronous, but the function {function} is async (launch a task inside it instead)"
        )

    def test_an_empty_tuple_is_refused(self):
        """It would mean that nothing is ever restarted, for which there is a clearer word."""
        assert refusal(ValueError, on=()) == (
            "on must not be empty: use restart='never' for a service that is never restarted"
        )

    @pytest.mark.parametrize(
        ("on", "exc", "answer"),
        [
            (Exception, MovedError(), True),
            (Exception, Odd(), False),
            (OSError, ConnectionResetError(), True),
            (OSError, MovedError(), False),
            ((OSError, MovedError), MovedError(), True),
            ((OSError, MovedError), KeyError(), False),
            (BaseException, Odd(), True),
            (Odd, Odd(), True),
        ],
    )
    def test_types_answer_for_their_instances(self, on, exc, answer):
        """As in an except clause."""
        assert Policy(on=on).answer(exc) is answer

    @pytest.mark.parametrize(
        ("result", "answer"),
        [(True, True), (False, False), (0, 0.0), (0.0, 0.0), (1, 1.0), (2.5, 2.5), (decimal.Decimal("0.5"), 0.5)],
    )
    def test_a_function_answers_yes_no_or_the_seconds(self, result, answer):
        """True and False are meant by identity: 0 is a delay, at once, and 1 is one second."""
        got = Policy(on=lambda exc: result).answer(MovedError())

        assert (got, type(got)) == (answer, type(answer))

    def test_a_function_gets_the_exception_itself(self):
        """So that it can look into it, for a Retry-After say."""
        assert Policy(on=lambda exc: exc.retry_after).answer(HttpError(30)) == 30

    def test_a_function_is_asked_of_exceptions_that_are_no_exception(self):
        """Whatever class they have, save those that end the program or the coroutine."""
        assert Policy(on=lambda exc: type(exc) is Odd).answer(Odd()) is True

    @pytest.mark.parametrize(
        ("result", "error", "message"),
        [
            (None, TypeError, "on must return True, False or a number of seconds, got NoneType"),
            ("5", TypeError, "on must return True, False or a number of seconds, got str"),
            (Truth(), TypeError, "on must return True, False or a number of seconds, got Truth"),
            (MovedError, TypeError, "on must return True, False or a number of seconds, got the class MovedError"),
            (math.nan, ValueError, "the delay returned by on must be a finite number of seconds >= 0, got nan"),
            (math.inf, ValueError, "the delay returned by on must be a finite number of seconds >= 0, got inf"),
            (-1, ValueError, "the delay returned by on must be a finite number of seconds >= 0, got -1"),
        ],
    )
    def test_any_other_answer_is_an_error(self, result, error, message):
        """A function that forgets to return, or computes nonsense, is told so rather than guessed at."""
        with pytest.raises(error) as caught:
            Policy(on=lambda exc: result).answer(MovedError())

        assert str(caught.value) == message
        assert caught.value.__context__ is None

    def test_a_coroutine_for_an_answer_is_closed(self):
        """A lambda can hide an async function. One error is enough: no warning about a coroutine follows."""

        async def ask(exc):
            return True

        with pytest.raises(TypeError) as caught:
            Policy(on=lambda exc: ask(exc)).answer(MovedError())

        assert str(caught.value) == "on must return True, False or a number of seconds, got coroutine"

    def test_an_error_of_the_function_propagates(self):
        """It is a mistake in the program, and no answer."""

        def broken(exc):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            Policy(on=broken).answer(MovedError())

    @pytest.mark.parametrize("exc", EXITS)
    @pytest.mark.parametrize("on", [BaseException, *EXITS, tuple(EXITS)])
    def test_what_ends_the_program_never_calls_for_a_restart(self, exc, on):
        """SystemExit, KeyboardInterrupt and GeneratorExit, even if `on` names them."""
        assert Policy(on=on).answer(exc()) is False

    @pytest.mark.parametrize("exc", EXITS)
    def test_functions_are_not_asked_of_what_ends_the_program(self, exc):
        """They could only answer wrongly."""
        asked = []

        assert Policy(on=asked.append).answer(exc()) is False
        assert Policy(on=asked.append).answer(BaseExceptionGroup("", [MovedError(), exc()])) is False
        assert asked == []

    def test_a_policy_that_never_restarts_asks_nobody(self):
        """restart="never" is an answer already."""
        asked = []

        assert Policy(restart="never", on=asked.append).answer(MovedError()) is False
        assert asked == []

    def test_always_asks_as_on_error_does(self):
        """`on` decides about failures only, in both."""
        assert Policy(restart="always", on=OSError).answer(OSError()) is True
        assert Policy(restart="always", on=OSError).answer(MovedError()) is False


def group(*exceptions):
    return BaseExceptionGroup("a group", exceptions)


class TestGroups:
    @pytest.mark.parametrize(
        ("on", "exc", "answer"),
        [
            (OSError, group(OSError(), ConnectionResetError()), True),
            (OSError, group(OSError(), MovedError()), False),
            (OSError, group(group(OSError()), group(group(TimeoutError()))), True),
            (OSError, group(OSError(), group(OSError(), MovedError())), False),
            ((OSError, MovedError), group(OSError(), group(MovedError())), True),
            (Exception, group(OSError(), MovedError()), True),
            (Exception, group(OSError(), Odd()), False),
            (Exception, group(OSError(), asyncio.CancelledError()), False),
            (BaseException, group(OSError(), Odd()), True),
        ],
    )
    def test_every_exception_in_it_must_match(self, on, exc, answer):
        """At whatever depth: a group with one foreign exception holds a failure that nobody foresaw."""
        assert Policy(on=on).answer(exc) is answer

    @pytest.mark.parametrize("kind", EXITS)
    @pytest.mark.parametrize("on", [BaseException, BaseExceptionGroup, lambda exc: True])
    def test_one_that_ends_the_program_decides(self, kind, on):
        """However deep it lies, and whatever `on` says to the others."""
        assert Policy(on=on).answer(group(OSError(), group(kind()))) is False

    @pytest.mark.parametrize(
        ("on", "exc", "answer"),
        [
            (ExceptionGroup, group(OSError(), MovedError()), True),
            (BaseExceptionGroup, group(Odd()), True),
            (ExceptionGroup, group(Odd()), False),
            (ExceptionGroup, OSError(), False),
            (MovedGroup, MovedGroup("", [MovedError()]), True),
            (MovedGroup, group(MovedError()), False),
            ((MovedGroup, OSError), MovedGroup("", [KeyError()]), True),
            ((MovedGroup, OSError), group(OSError()), True),
            ((MovedGroup, OSError), group(OSError(), KeyError()), False),
            ((MovedGroup, OSError), OSError(), True),
        ],
    )
    def test_a_type_of_group_that_is_named_means_the_group_as_a_whole(self, on, exc, answer):
        """on=ExceptionGroup says that it does not matter what is in it. (Exception does not say so, see above.)"""
        assert Policy(on=on).answer(exc) is answer

    @pytest.mark.parametrize(
        ("delays", "answer"),
        [
            ([True, True], True),
            ([True, False], False),
            ([30, False, 60], False),
            ([10, 30, 20], 30),
            ([True, 30], 30),
            ([True, 0], 0),
            ([0, 0.5], 0.5),
        ],
    )
    def test_a_function_is_asked_of_each_and_the_longest_delay_wins(self, delays, answer):
        """Also of the exceptions in inner groups, never of a group itself."""
        head, *tail = [HttpError(delay) for delay in delays]
        asked = []

        def on(exc):
            asked.append(exc)
            return exc.retry_after

        got = Policy(on=on).answer(group(head, group(*tail)) if tail else group(head))

        assert (got, type(got)) == (answer, type(answer) if isinstance(answer, bool) else float)
        assert asked == [head, *tail]

    def test_every_order_of_answers_gives_the_same(self):
        """Which of the exceptions comes first does not matter."""
        for order in itertools.permutations([True, 5, 60.0]):
            assert Policy(on=lambda exc: exc.retry_after).answer(group(*map(HttpError, order))) == 60


class TestDeclared:
    def test_a_function_that_wraps_itself_has_no_service(self):
        """The search has an end."""

        async def feed(): ...

        feed.__wrapped__ = feed
        assert declared(feed) is None

    def test_a_mock_declares_no_policy(self):
        """Although it has every attribute."""
        assert declared(unittest.mock.AsyncMock()) is None


def test_its_repr_tells_the_options_and_nothing_else():
    """As they are after the checks: delays made a tuple, the default of reset_after filled in."""
    assert repr(Policy(delays=[2], name="feed")) == (
        "Policy(delays=(2.0,), random_shift=0.0, reset_after=60.0, on=<class 'Exception'>, restart='on_error', "
        "max_restarts=None, heartbeat=None, ready=False, name='feed')"
    )
