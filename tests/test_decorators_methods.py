"""@watched, @supervised and @impatient in classes: on methods of every kind, above and below other decorators."""

from __future__ import annotations

import abc
import dataclasses
import enum
import functools
import inspect
import pickle
import types
import typing

import pytest
import wrapt
from decorated import FEW, KEEPING, LAUNCHING, Service, is_coroutine_function
from tools import give

import async_plus

any_decorator = pytest.mark.parametrize("decorate", FEW.values(), ids=FEW)
keeping_decorator = pytest.mark.parametrize("decorate", KEEPING.values(), ids=KEEPING)
launching_decorator = pytest.mark.parametrize("decorate", LAUNCHING.values(), ids=LAUNCHING)


class Plain:
    """What `decorated_class` decorates."""

    async def method(self, url: str, *, size: int = 1) -> tuple[object, str, int]:
        """Fetch it."""
        return (self, url, size)

    @classmethod
    async def class_method(cls, url: str) -> tuple[object, str]:
        """Fetch it."""
        return (cls, url)

    @staticmethod
    async def static_method(url: str) -> str:
        """Fetch it."""
        return url


def decorated_class(decorate):
    """Return a class with methods of each kind, the decorator above and below."""

    class Decorated(Plain):
        method = decorate(Plain.method)
        class_above = decorate(Plain.__dict__["class_method"])
        class_below = classmethod(decorate(Plain.__dict__["class_method"].__func__))
        static_above = decorate(Plain.__dict__["static_method"])
        static_below = staticmethod(decorate(Plain.static_method))

    return Decorated


CLASS_METHODS = ["class_above", "class_below"]
STATIC_METHODS = ["static_above", "static_below"]
METHODS = ["method", *CLASS_METHODS, *STATIC_METHODS]


class TestCalls:
    @any_decorator
    async def test_a_method_gets_its_object(self, decorate):
        """Called on an object or on the class, of the class or of one that inherits from it."""
        cls = decorated_class(decorate)
        thing, child = cls(), type("Child", (cls,), {})()

        assert await thing.method("a", size=2) == (thing, "a", 2)
        assert await cls.method(thing, "a") == (thing, "a", 1)
        assert await child.method("a") == (child, "a", 1)

    @any_decorator
    @pytest.mark.parametrize("name", CLASS_METHODS)
    async def test_a_class_method_gets_its_class(self, decorate, name):
        """With the decorator above @classmethod and below it."""
        cls = decorated_class(decorate)
        child = type("Child", (cls,), {})

        for owner, expected in [(cls, cls), (cls(), cls), (child, child), (child(), child)]:
            assert await getattr(owner, name)("a") == (expected, "a")

    @any_decorator
    @pytest.mark.parametrize("name", STATIC_METHODS)
    async def test_a_static_method_gets_nothing(self, decorate, name):
        """With the decorator above @staticmethod and below it."""
        cls = decorated_class(decorate)

        assert await getattr(cls, name)("a") == "a"
        assert await getattr(cls(), name)("a") == "a"

    @any_decorator
    def test_class_and_static_methods_stay_what_they_are(self, decorate):
        """Others look at the kind: abc, dataclasses and documentation tools."""
        cls = decorated_class(decorate)

        assert all(type(cls.__dict__[name]) is classmethod for name in CLASS_METHODS)
        assert all(type(cls.__dict__[name]) is staticmethod for name in STATIC_METHODS)

    @any_decorator
    async def test_a_bound_method_can_be_decorated(self, decorate):
        """On the spot, and kept as an attribute of its object."""
        thing = Plain()
        thing.bound = decorate(thing.method)
        thing.bound_to_class = decorate(Plain.class_method)

        assert await thing.bound("a") == (thing, "a", 1)
        assert await thing.bound_to_class("a") == (Plain, "a")

    @any_decorator
    async def test_a_bound_method_stays_bound_as_a_class_attribute(self, decorate):
        """It has its object, and takes no other, as without the decorator."""
        thing = Plain()

        class Other:
            borrowed = decorate(thing.method)

        assert await Other().borrowed("a") == (thing, "a", 1)
        assert await Other.borrowed("a") == (thing, "a", 1)

    @any_decorator
    async def test_a_method_can_be_decorated_once_the_class_exists(self, decorate):
        """As patches are made."""

        class Patched(Plain):
            pass

        Patched.method = decorate(Patched.method)
        thing = Patched()

        assert await thing.method("a") == (thing, "a", 1)

    @any_decorator
    async def test_super_reaches_a_decorated_method(self, decorate):
        """A decorated method may override another one and call it."""
        Base = decorated_class(decorate)  # noqa: N806  # a class

        class Derived(Base):
            @decorate
            async def method(self, url, *, size=1):
                return ("derived", await super().method(url, size=size))

            @decorate
            @classmethod
            async def class_above(cls, url):
                return ("derived", await super().class_above(url))

        thing = Derived()
        assert await thing.method("a") == ("derived", (thing, "a", 1))
        assert await Derived.class_above("a") == ("derived", (Derived, "a"))

    @any_decorator
    async def test_a_property_may_return_what_it_makes(self, decorate):
        """``await service.status``: plain, cached or of a class with slots."""

        class Thing:
            @property
            @decorate
            async def status(self):
                return self

            @functools.cached_property
            def method(self):
                return decorate(give)

        thing = Thing()
        assert await thing.status is thing
        assert await thing.method(1) == 1
        assert thing.method is thing.method

    @any_decorator
    async def test_call_itself_can_be_decorated(self, decorate):
        """An object whose call is decorated works, and can be decorated again unless it launches tasks."""

        class Thing:
            @decorate
            async def __call__(self, url):
                return (self, url)

        thing = Thing()
        assert await thing("a") == (thing, "a")
        if decorate in KEEPING.values():
            assert await async_plus.watched(thing)("a") == (thing, "a")

    @any_decorator
    async def test_partialmethod_works_below_and_above(self, decorate):
        """Above a decorated method, and as a decorated method's own body calls it."""

        class Thing(decorated_class(decorate)):
            get = functools.partialmethod(Plain.method, size=2)
            get_decorated = functools.partialmethod(decorate(Plain.method), size=2)
            get_by_name = functools.partialmethod(get_decorated, "a")
            get_class = functools.partialmethod(Plain.__dict__["class_method"], "a")
            get_class_decorated = functools.partialmethod(decorate(Plain.__dict__["class_method"]), "a")
            get_static_decorated = functools.partialmethod(decorate(Plain.__dict__["static_method"]), "a")

        thing = Thing()
        assert await thing.get_decorated("a") == await thing.get("a") == (thing, "a", 2)
        assert await Thing.get_decorated(thing, "a") == (thing, "a", 2)
        assert await thing.get_by_name() == (thing, "a", 2)
        assert await Thing.get_class_decorated() == await Thing.get_class() == (Thing, "a")
        assert await thing.get_static_decorated() == "a"
        assert await decorate(thing.get)("a") == (thing, "a", 2)

    @any_decorator
    async def test_singledispatchmethod_works_above(self, decorate):
        """Each implementation, registered by its annotation or by type, is a decorated method."""

        class Thing:
            @functools.singledispatchmethod
            @decorate
            async def get(self, key):
                return (self, "any", key)

            @get.register
            @decorate
            async def _(self, key: int):
                return (self, "int", key)

            @get.register(str)
            @decorate
            async def _(self, key):
                return (self, "str", key)

        # Annotations are text here, and the type is looked up where the function was made.
        thing = Thing()
        assert await thing.get(b"") == (thing, "any", b"")
        assert await thing.get(1) == (thing, "int", 1)
        assert await thing.get("a") == (thing, "str", "a")


class TestFace:
    @any_decorator
    @pytest.mark.parametrize("name", METHODS)
    def test_name_docs_and_signature_are_kept(self, decorate, name):
        """Bound or not, above or below: as those of the method without the decorator."""
        cls = decorated_class(decorate)
        plain = "method" if name == "method" else name.partition("_")[0] + "_method"

        for face, undecorated in [
            (getattr(cls, name), getattr(Plain, plain)),
            (getattr(cls(), name), getattr(Plain(), plain)),
        ]:
            assert face.__name__ == plain
            assert face.__qualname__ == f"Plain.{plain}"
            assert face.__module__ == __name__
            assert inspect.getdoc(face) == "Fetch it."
            assert inspect.signature(face) == inspect.signature(undecorated)
            assert inspect.signature(face, eval_str=True) == inspect.signature(undecorated, eval_str=True)
            assert typing.get_type_hints(face) == typing.get_type_hints(undecorated)
            assert inspect.unwrap(face) is getattr(undecorated, "__func__", undecorated)

    @any_decorator
    def test_the_bound_method_is_a_plain_one(self, decorate):
        """With its object and its function, so that others can take it apart."""
        thing = decorated_class(decorate)()
        method = thing.method

        assert type(method) is types.MethodType
        assert inspect.ismethod(method)
        assert method.__self__ is thing
        assert "Plain.method of" in repr(method)

    @any_decorator
    def test_a_bound_method_equals_itself(self, decorate):
        """Each look-up makes a new one. Listeners are removed by comparing."""
        cls = decorated_class(decorate)
        thing, other = cls(), cls()

        assert thing.method == thing.method
        assert hash(thing.method) == hash(thing.method)
        assert thing.method != other.method
        assert cls.method is cls.method

    @any_decorator
    @pytest.mark.parametrize("name", METHODS)
    def test_what_is_set_on_it_shows_on_the_bound_method(self, decorate, name):
        """There pytest looks for marks and frameworks for routes; and nothing shows on the method without it."""
        cls = decorated_class(decorate)
        inspect.unwrap(inspect.getattr_static(cls, name)).early = 1
        cls = decorated_class(decorate)
        face = inspect.getattr_static(cls, name)
        face = getattr(face, "__func__", face) if name != "method" else face
        face.label = "set"

        bound = getattr(cls(), name)
        assert (bound.early, bound.label) == (1, "set")
        assert getattr(cls, name).label == "set"
        assert not hasattr(inspect.unwrap(face), "label")

        del face.label
        assert not hasattr(bound, "label")

    @any_decorator
    def test_a_new_name_shows_on_the_bound_method(self, decorate):
        """A decorated method is renamed like any other."""

        class Thing:
            @decorate
            async def method(self):
                pass

        Thing.method.__name__ = Thing.method.__qualname__ = "renamed"

        assert (Thing().method.__name__, Thing().method.__qualname__) == ("renamed", "renamed")
        assert "renamed of" in repr(Thing().method)

    def test_a_bound_method_is_pickled_with_its_object(self):
        """By the name of the method, as those of plain functions are."""
        service = Service()

        method = pickle.loads(pickle.dumps(service.supervised_method))
        assert (type(method.__self__), method.__func__) == (Service, service.supervised_method.__func__)
        assert pickle.loads(pickle.dumps(Service.class_method)) == Service.class_method

    @any_decorator
    def test_a_decorated_bound_method_is_not_pickled(self, decorate):
        """Under its name there is the method without the decorator; it must not come back as that one."""
        with pytest.raises(pickle.PicklingError, match="not the same object"):
            pickle.dumps(decorate(Plain().method))


class TestCoroutineFunctions:
    @keeping_decorator
    @pytest.mark.parametrize("name", METHODS)
    def test_a_method_stays_one(self, decorate, name):
        """Bound or not, and as a partial."""
        cls = decorated_class(decorate)

        for method in (getattr(cls, name), getattr(cls(), name), functools.partial(getattr(cls(), name), "a")):
            assert is_coroutine_function(method)
        assert is_coroutine_function(decorate(Plain().method))
        assert is_coroutine_function(decorate(Plain.class_method))

    @launching_decorator
    @pytest.mark.parametrize("name", METHODS)
    def test_a_watched_method_is_none(self, decorate, name):
        """Bound or not, and as a partial: a call of it returns a task."""
        cls = decorated_class(decorate)

        for method in (getattr(cls, name), getattr(cls(), name), functools.partial(getattr(cls(), name), "a")):
            assert not is_coroutine_function(method)
        for bound in (Plain().method, Plain.class_method):
            assert not is_coroutine_function(decorate(bound))
            assert not is_coroutine_function(decorate(functools.partial(bound, "a")))

    @launching_decorator
    def test_a_watched_method_of_a_marked_function_is_none(self, decorate):
        """A mark that is copied along with the other attributes must not show on the bound method."""

        class Thing:
            method = decorate(async_plus.try_gather)

        assert not is_coroutine_function(Thing.method)
        assert not is_coroutine_function(Thing().method)

    @launching_decorator
    def test_what_shows_inside_a_watched_method_has_a_text_too(self, decorate):
        """inspect and debuggers look at the function and its partial; none of them shows arguments."""
        inside = decorate(Plain().method).__func__
        assert repr(inside) == f"<@watched Plain.method at {id(inside):#x}>"

        inside = decorate(functools.partial(Plain.static_method, "secret")).func
        assert repr(inside) == f"<@watched Plain.static_method at {id(inside):#x}>"


class TestClasses:
    """The kinds of classes that look at their members."""

    @any_decorator
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

    @any_decorator
    def test_making_it_abstract_leaves_the_function_alone(self, decorate):
        """The function may serve elsewhere, where nobody must override it."""

        async def fn():
            pass

        assert abc.abstractmethod(decorate(fn)).__isabstractmethod__ is True
        assert not hasattr(fn, "__isabstractmethod__")

    @any_decorator
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

    @any_decorator
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

    @any_decorator
    async def test_a_class_with_slots_has_them(self, decorate):
        """Nothing is stored on the object."""

        class Thing:
            __slots__ = ()

            @decorate
            async def method(self):
                return self

        thing = Thing()
        assert await thing.method() is thing

    @any_decorator
    async def test_an_enum_keeps_them_as_methods(self, decorate):
        """They are no members."""

        class Color(enum.Enum):
            RED = 1

            @decorate
            async def paint(self):
                return self

        assert list(Color) == [Color.RED]
        assert await Color.RED.paint() is Color.RED

    @any_decorator
    async def test_a_function_that_belongs_to_no_class_is_not_bound_to_an_instance(self, decorate):
        """As an attribute of one object it is just called."""
        thing = Plain()
        thing.give = decorate(give)

        assert await thing.give(1) == 1

    @any_decorator
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

    @any_decorator
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

    @any_decorator
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

    @any_decorator
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
