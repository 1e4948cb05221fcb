"""What is set on a decorated function, or on what it wraps, and where it shows."""

from __future__ import annotations

import functools
import inspect
import sys
from unittest.mock import AsyncMock

import pytest
from decorated import (
    Poller,
    any_decorator,
    fetch,
    few_decorators,
)


class TestAttributes:
    """What is set on a decorated function is its own."""

    @any_decorator
    def test_attributes_of_the_function_are_seen(self, decorate):
        """Those it had when it was decorated, and those it gets later."""

        async def local():
            pass

        local.early = 1
        face = decorate(local)
        local.late = 2

        assert (face.early, face.late) == (1, 2)
        assert face.__dict__["early"] == vars(face)["early"] == 1
        with pytest.raises(AttributeError, match="'function' object has no attribute 'never'"):
            _ = face.never

    @any_decorator
    def test_what_is_set_does_not_leak_into_the_function(self, decorate):
        """Two decorated forms of one function, each with its own label, must not share it."""
        first, second = decorate(fetch), decorate(fetch)
        first.label, second.label = "first", "second"

        assert (first.label, second.label) == ("first", "second")
        assert vars(first)["label"] == "first"
        assert "label" in dir(first)
        assert not hasattr(fetch, "label")

        del first.label
        assert not hasattr(first, "label")
        with pytest.raises(AttributeError):
            del first.label

    @any_decorator
    def test_decorators_above_pass_its_attributes_on(self, decorate):
        """`functools.wraps` copies them, as it does those of a function."""
        face = decorate(fetch)
        face.label = "fetch"

        @functools.wraps(face)
        def wrapper():
            pass

        assert wrapper.label == "fetch"
        assert wrapper.__wrapped__ is face

    @any_decorator
    def test_a_mark_does_not_leak_into_the_function(self, decorate):
        """Marking the decorated one as anything leaves the function what it was."""

        def plain():
            return fetch("a")

        if sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(plain)
            inspect.markcoroutinefunction(decorate(plain))
            assert vars(plain).keys() == {"_is_coroutine_marker"}
        pytest.mark.filterwarnings("error")(decorate(fetch))
        assert not hasattr(fetch, "pytestmark")

    @any_decorator
    def test_a_new_name_is_seen_everywhere(self, decorate):
        """Endpoints made in a loop are renamed so; coroutines and tasks tell the new name."""

        async def local():
            pass

        face = decorate(local)
        face.__name__ = face.__qualname__ = "renamed"
        face.__doc__ = "Renamed."
        face.__module__ = "elsewhere"

        assert (face.__name__, face.__qualname__, face.__doc__) == ("renamed", "renamed", "Renamed.")
        assert face.__module__ == "elsewhere"
        assert repr(face).endswith(f" renamed at {id(face):#x}>")

    @few_decorators
    async def test_new_defaults_take_effect(self, decorate):
        """What is set on the function's own account is set on the function."""

        async def local(value=1):
            return value

        face = decorate(local)
        face.__defaults__ = (2,)

        assert await face() == 2

    @few_decorators
    async def test_an_object_stays_in_sight_with_its_state(self, decorate):
        """It is the object that has the attributes, now and later, read and written."""
        poller = Poller(1)
        face = decorate(poller)

        poller.interval = 2
        assert (face.interval, vars(face)) == (2, {"interval": 2})

        face.interval = 3
        assert poller.interval == 3
        assert await face("a") == ("a", 3)

        del face.interval
        assert not hasattr(poller, "interval")

    @any_decorator
    def test_an_object_without_a_dict_has_none_when_decorated(self, decorate):
        """Nothing is made up."""

        class Slotted:
            __slots__ = ("interval",)

            async def __call__(self):
                pass

        face = decorate(Slotted())
        face.interval = 1

        assert face.interval == 1
        assert not hasattr(face, "__dict__")

    @any_decorator
    def test_a_mock_is_left_as_it_was(self, decorate):
        """To decorate one leaves no trace on it: it makes attributes up when asked for them."""
        mock = AsyncMock()
        before = set(vars(mock)["_mock_children"])

        decorate(mock)

        assert set(vars(mock)["_mock_children"]) == before
