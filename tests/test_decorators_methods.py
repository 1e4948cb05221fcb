"""@watched, @supervised and @impatient in classes: on methods of every kind, above and below other decorators."""

from __future__ import annotations

import functools
import inspect
import pickle
import types
import typing

import pytest
from decorated import (
    KEEPING,
    Service,
    few_decorators,
    is_coroutine_function,
    keeping_decorator,
    launching_decorator,
)
from tools import give

import async_plus


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
    @few_decorators
    async def test_a_method_gets_its_object(self, decorate):
        """Called on an object or on the class, of the class or of one that inherits from it."""
        cls = decorated_class(decorate)
        thing, child = cls(), type("Child", (cls,), {})()

        assert await thing.method("a", size=2) == (thing, "a", 2)
        assert await cls.method(thing, "a") == (thing, "a", 1)
        assert await child.method("a") == (child, "a", 1)

    @few_decorators
    @pytest.mark.parametrize("name", CLASS_METHODS)
    async def test_a_class_method_gets_its_class(self, decorate, name):
        """With the decorator above @classmethod and below it."""
        cls = decorated_class(decorate)
        child = type("Child", (cls,), {})

        for owner, expected in [(cls, cls), (cls(), cls), (child, child), (child(), child)]:
            assert await getattr(owner, name)("a") == (expected, "a")

    @few_decorators
    @pytest.mark.parametrize("name", STATIC_METHODS)
    async def test_a_static_method_gets_nothing(self, decorate, name):
        """With the decorator above @staticmethod and below it."""
        cls = decorated_class(decorate)

        assert await getattr(cls, name)("a") == "a"
        assert await getattr(cls(), name)("a") == "a"

    @few_decorators
    def test_class_and_static_methods_stay_what_they_are(self, decorate):
        """Others look at the kind: abc, dataclasses and documentation tools."""
        cls = decorated_class(decorate)

        assert all(type(cls.__dict__[name]) is classmethod for name in CLASS_METHODS)
        assert all(type(cls.__dict__[name]) is staticmethod for name in STATIC_METHODS)

    @few_decorators
    async def test_a_bound_method_can_be_decorated(self, decorate):
        """On the spot, and kept as an attribute of its object."""
        thing = Plain()
        thing.bound = decorate(thing.method)
        thing.bound_to_class = decorate(Plain.class_method)

        assert await thing.bound("a") == (thing, "a", 1)
        assert await thing.bound_to_class("a") == (Plain, "a")

    @few_decorators
    async def test_a_bound_method_stays_bound_as_a_class_attribute(self, decorate):
        """It has its object, and takes no other, as without the decorator."""
        thing = Plain()

        class Other:
            borrowed = decorate(thing.method)

        assert await Other().borrowed("a") == (thing, "a", 1)
        assert await Other.borrowed("a") == (thing, "a", 1)

    @few_decorators
    async def test_a_method_can_be_decorated_once_the_class_exists(self, decorate):
        """As patches are made."""

        class Patched(Plain):
            pass

        Patched.method = decorate(Patched.method)
        thing = Patched()

        assert await thing.method("a") == (thing, "a", 1)

    @few_decorators
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

    @few_decorators
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

    @few_decorators
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

    @few_decorators
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

    @few_decorators
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
    @few_decorators
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

    @few_decorators
    def test_the_bound_method_is_a_plain_one(self, decorate):
        """With its object and its function, so that others can take it apart."""
        thing = decorated_class(decorate)()
        method = thing.method

        assert type(method) is types.MethodType
        assert inspect.ismethod(method)
        assert method.__self__ is thing
        assert "Plain.method of" in repr(method)

    @few_decorators
    def test_a_bound_method_equals_itself(self, decorate):
        """Each look-up makes a new one. Listeners are removed by comparing."""
        cls = decorated_class(decorate)
        thing, other = cls(), cls()

        assert thing.method == thing.method
        assert hash(thing.method) == hash(thing.method)
        assert thing.method != other.method
        assert cls.method is cls.method

    @few_decorators
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

    @few_decorators
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

    @few_decorators
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
