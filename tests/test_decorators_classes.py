"""Decorated methods in the kinds of classes that look at their members, and among other people's decorators."""

from __future__ import annotations

import abc
import dataclasses
import enum
import functools
import types
import typing

import pytest
import wrapt
from decorated import (
    LAUNCHING,
    few_decorators,
    is_coroutine_function,
)
from tools import give


class Plain:
    """What is decorated."""

    async def method(self, url, *, size=1):
        return (self, url, size)


class TestClasses:
    """The kinds of classes that look at their members."""

    @few_decorators
    @pytest.mark.parametrize("order", ["above", "below"])
    async def test_an_abstract_method_stays_abstract(self, decorate, order):
        """A class with one cannot be instantiated until it is overridden, whichever decorator comes first."""

        def both(fn):
            return decorate(abc.abstractmethod(fn)) if order == "above" else abc.abstractmethod(decorate(fn))

        class Base(abc.ABC):  # noqa: B024  # its methods are abstract, if the order of decorators does not matter
            @both
            async def method(self):
                return "base"

            @classmethod
            @both
            async def class_method(cls):
                return "base"

        class Concrete(Base):
            @decorate
            async def method(self):
                return ("concrete", await super().method())

            @decorate
            @classmethod
            async def class_method(cls):
                return "concrete"

        assert Base.__abstractmethods__ == {"method", "class_method"}
        with pytest.raises(TypeError, match="abstract"):
            Base()
        assert await Concrete().method() == ("concrete", "base")
        assert await Concrete.class_method() == "concrete"

    @few_decorators
    def test_making_it_abstract_leaves_the_function_alone(self, decorate):
        """The function may serve elsewhere, where nobody must override it."""

        async def fn():
            pass

        assert abc.abstractmethod(decorate(fn)).__isabstractmethod__ is True
        assert not hasattr(fn, "__isabstractmethod__")

    @few_decorators
    async def test_a_protocol_is_fulfilled_and_may_have_bodies(self, decorate):
        """isinstance finds a decorated method, and a class may inherit one from the protocol."""

        @typing.runtime_checkable
        class Pollable(typing.Protocol):
            @decorate
            async def poll(self): ...

            @decorate
            async def poll_twice(self):
                return (await self.poll(), await self.poll())

        class Explicit(Pollable):
            @decorate
            async def poll(self):
                return 1

        class Structural:
            poll = decorate(give)
            poll_twice = decorate(give)

        assert isinstance(Explicit(), Pollable)
        assert isinstance(Structural(), Pollable)
        assert not isinstance(Plain(), Pollable)
        assert await Explicit().poll_twice() == (1, 1)

    @few_decorators
    @pytest.mark.parametrize("options", [{}, {"slots": True}, {"frozen": True}, {"slots": True, "frozen": True}])
    async def test_a_dataclass_keeps_its_methods(self, decorate, options):
        """They are no fields; and a decorated function may be the default of one."""

        decorated_give = decorate(give)

        @dataclasses.dataclass(**options)
        class Thing:
            number: int
            callback: typing.Any = decorated_give

            @decorate
            async def method(self):
                return (self, self.number)

        thing = Thing(1)
        assert [field.name for field in dataclasses.fields(Thing)] == ["number", "callback"]
        assert await thing.method() == (thing, 1)
        assert await Thing(2, callback=decorate(give)).callback(3) == 3

    @few_decorators
    async def test_a_class_with_slots_has_them(self, decorate):
        """Nothing is stored on the object."""

        class Thing:
            __slots__ = ()

            @decorate
            async def method(self):
                return self

        thing = Thing()
        assert await thing.method() is thing

    @few_decorators
    async def test_an_enum_keeps_them_as_methods(self, decorate):
        """They are no members."""

        class Color(enum.Enum):
            RED = 1

            @decorate
            async def paint(self):
                return self

        assert list(Color) == [Color.RED]
        assert await Color.RED.paint() is Color.RED

    @few_decorators
    async def test_a_function_that_belongs_to_no_class_is_not_bound_to_an_instance(self, decorate):
        """As an attribute of one object it is just called."""
        thing = Plain()
        thing.give = decorate(give)

        assert await thing.give(1) == 1

    @few_decorators
    async def test_an_object_or_partial_in_a_class_is_bound_as_without_the_decorator(self, decorate):
        """An object with an async call does not bind, so it gets no self."""

        class Poller:
            async def __call__(self, *args):
                return args

        class Thing:
            poll = decorate(Poller())

        assert await Thing().poll("a") == ("a",)
        assert await Thing.poll("a") == ("a",)


class TestOtherPeoplesWrappers:
    """What binds in a way of its own still does."""

    @few_decorators
    async def test_a_wrapt_decorator_below_sees_its_object(self, decorate):
        """wrapt tells a decorator which object a method was called on, if the method is bound by its rules."""

        @wrapt.decorator
        async def noting(wrapped, instance, args, kwargs):
            seen.append(instance)
            return await wrapped(*args, **kwargs)

        class Thing:
            @decorate
            @noting
            async def method(self, url):
                return (self, url)

            @decorate
            @noting
            @classmethod
            async def class_method(cls, url):
                return (cls, url)

        seen = []
        thing = Thing()
        assert await thing.method("a") == (thing, "a")
        assert await Thing.method(thing, "a") == (thing, "a")
        assert await thing.class_method("a") == (Thing, "a")
        assert await Thing.class_method("a") == (Thing, "a")
        assert seen == [thing, thing, Thing, Thing]

    @few_decorators
    async def test_a_descriptor_that_makes_methods_is_asked_to(self, decorate):
        """Functions compiled by Cython are such, and they are no functions to Python."""

        class Compiled:
            def __init__(self, fn):
                self.fn = fn
                self.__name__ = self.__qualname__ = fn.__name__

            def __get__(self, instance, owner=None):
                return self if instance is None else types.MethodType(self, instance)

            async def __call__(self, *args):
                return await self.fn(*args)

        class Thing:
            method = decorate(Compiled(Plain.method))

        thing = Thing()
        assert await thing.method("a") == (thing, "a", 1)
        assert await Thing.method(thing, "a") == (thing, "a", 1)
        assert Thing.method is Thing.__dict__["method"]
        assert thing.method == thing.method
        if decorate in LAUNCHING.values():
            assert not is_coroutine_function(thing.method)

    @few_decorators
    async def test_a_wrapper_made_with_functools_is_fine_above_and_below(self, decorate):
        """The usual home-made decorator, which copies names and attributes."""

        def noting(fn):
            @functools.wraps(fn)
            async def wrapper(*args):
                seen.append(args)
                return await fn(*args)

            return wrapper

        class Thing:
            @decorate
            @noting
            async def below(self, url):
                return (self, url)

            @noting
            @decorate
            async def above(self, url):
                return (self, url)

        seen = []
        thing = Thing()
        assert await thing.below("a") == await thing.above("a") == (thing, "a")
        assert seen == [(thing, "a"), (thing, "a")]
        assert is_coroutine_function(thing.above)
