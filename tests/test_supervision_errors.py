"""Errors that are kept without their tracebacks."""

from __future__ import annotations

import traceback

import pytest
from tools import Bang, Boom

from async_plus.supervision.errors import strip_tracebacks, without_tracebacks


def raised(error):
    try:
        raise error
    except type(error):
        return error


class Fancy(Exception):  # noqa: N818  # it is any exception of a user's
    """Its parameters are not its args."""

    def __init__(self, *, code):
        super().__init__("failed")
        self.code = code

    def __str__(self):
        return f"code {self.code}"


class Odd(Exception):  # noqa: N818
    """It cannot be made from its args."""

    def __new__(cls, *, code):
        return super().__new__(cls)

    def __init__(self, *, code):
        pass


class Odder(BaseException):
    def __new__(cls, *, code):
        return super().__new__(cls)

    def __init__(self, *, code):
        super().__init__("text")


class FrozenError(Exception):
    def __setattr__(self, name, value):
        raise AttributeError(name)


@pytest.mark.parametrize(
    "error", [Boom("text"), Fancy(code=5), OSError(2, "gone", "file"), KeyError("key"), FrozenError()], ids=repr
)
def test_a_copy_says_the_same(error):
    """Type, text and notes are those of the original, whose traceback it leaves alone."""
    raised(error)
    if not isinstance(error, FrozenError):
        error.add_note("a note")

    copy = without_tracebacks(error)

    assert copy is not error
    assert (type(copy), str(copy), copy.args) == (type(error), str(error), error.args)
    assert vars(copy) == vars(error)
    assert (copy.__traceback__, error.__traceback__ is None) == (None, False)
    assert traceback.format_exception_only(copy) == traceback.format_exception_only(error)


def test_what_led_to_it_is_copied_too():
    """Cause, context and the parts of a group, each once, even in a circle."""
    leaf, cause = raised(ValueError("leaf")), raised(Bang("cause"))
    error = raised(ExceptionGroup("two", [leaf, Boom("other")]))
    error.__cause__ = cause
    cause.__context__ = error

    copy = without_tracebacks(error)

    assert copy.message == "two"
    assert [(type(part), str(part), part.__traceback__) for part in copy.exceptions] == [
        (ValueError, "leaf", None),
        (Boom, "other", None),
    ]
    assert (type(copy.__cause__), str(copy.__cause__), copy.__cause__.__traceback__) == (Bang, "cause", None)
    assert copy.__cause__.__context__ is copy
    assert copy.__suppress_context__
    assert cause.__traceback__ is not None


@pytest.mark.parametrize(("kind", "base"), [(Odd, Exception), (Odder, BaseException)])
def test_one_that_cannot_be_copied_is_represented_by_a_base(kind, base):
    """Better than nothing, and better than the frames."""
    assert type(without_tracebacks(raised(kind(code=5)))) is base


def test_tracebacks_are_stripped_from_all_that_led_to_it():
    """In place, and in the parts of a group; a circle has an end."""
    leaf, cause = raised(ValueError("leaf")), raised(FrozenError())
    error = raised(ExceptionGroup("two", [leaf]))
    error.__cause__ = cause
    leaf.__context__ = error

    strip_tracebacks(error)

    assert [exc.__traceback__ for exc in (error, cause, leaf)] == [None] * 3
