"""@watched, @supervised and @impatient on functions, partials and objects: how they are called, and how they look."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import pickle
import pydoc
import sys
import traceback
import types
import typing
import weakref
from unittest.mock import AsyncMock

import pytest
from decorated import (
    KEEPING,
    PICKLABLE,
    Poller,
    Url,
    any_decorator,
    fetch,
    few_decorators,
    few_keeping_decorators,
    keeping_decorator,
)
from tools import give

import async_plus


class TestCalls:
    @few_decorators
    async def test_arguments_and_result_pass_through(self, decorate):
        """Of every kind, under whatever name: no name of ours is taken."""
        decorated_fetch = decorate(fetch)

        assert await decorated_fetch("a") == ["a", 1, (), 2.5, {}]
        assert await decorated_fetch("a", 2, b"3", limit=4, url="b", self="s", fn="f", args="g", kwargs="k") == [
            "a",
            2,
            (b"3",),
            4,
            {"url": "b", "self": "s", "fn": "f", "args": "g", "kwargs": "k"},
        ]

    def test_nothing_stands_between_a_call_and_what_it_does(self):
        """Neither of a function nor of a method: a frame more would cost as much as all the rest of the call."""

        @async_plus.watched
        async def save(*_):
            """Needs a loop: the error comes from what the call does."""

        class Store:
            method = save

        for call in (save, Store().method):
            with pytest.raises(RuntimeError) as caught:
                call()
            [_, *functions] = [frame.name for frame in traceback.extract_tb(caught.tb)]
            assert functions == ["call", "launch_from"]

    @pytest.mark.parametrize("decorate", [async_plus.watched, async_plus.supervised, async_plus.impatient(log_after=5)])
    async def test_arguments_that_do_not_fit_are_told_in_the_functions_own_words(self, decorate):
        """A wrong call is a TypeError of the function itself, and nothing runs or restarts."""
        with pytest.raises(TypeError) as caught:
            await decorate(give)()

        assert str(caught.value) == "give() missing 1 required positional argument: 'value'"

    @few_decorators
    async def test_a_partial_can_be_decorated(self, decorate):
        """Also one of a partial, or of an object that is called like a coroutine function."""
        assert await decorate(functools.partial(fetch, "a", limit=1))(2) == ["a", 2, (), 1, {}]
        assert await decorate(functools.partial(functools.partial(fetch, "a"), 2))() == ["a", 2, (), 2.5, {}]
        assert await decorate(functools.partial(Poller(3), "a"))() == ("a", 3)

    @few_decorators
    async def test_an_object_with_an_async_call_can_be_decorated(self, decorate):
        """It is called like a coroutine function, so it is taken for one."""
        assert await decorate(Poller())("a") == ("a", 1)

    @few_decorators
    async def test_a_partial_of_what_is_decorated_works(self, decorate):
        """The other way round."""
        assert await functools.partial(decorate(fetch), "a", limit=1)(2) == ["a", 2, (), 1, {}]

    @few_decorators
    async def test_a_marked_function_can_be_decorated(self, decorate):
        """A plain function that returns a coroutine, and is marked as one that does, as `try_gather` is."""
        assert await decorate(async_plus.try_gather)(give(1), give(2)) == [1, 2]

    @few_decorators
    async def test_a_mock_can_be_decorated(self, decorate):
        """What tests put in the place of coroutine functions is decorated as they are."""
        mock = AsyncMock(return_value=1)
        specced = AsyncMock(spec=fetch, return_value=2)

        assert await decorate(mock)("a") == 1
        assert await decorate(specced)("a") == 2

        mock.assert_awaited_once_with("a")
        specced.assert_awaited_once_with("a")

    async def test_a_decorator_with_options_can_be_used_again(self):
        """One set of options for many functions, which share nothing else."""
        for decorate in (
            async_plus.watched(name="job"),
            async_plus.supervised(delays=[0]),
            async_plus.impatient(log_after=5),
        ):
            first, second = decorate(give), decorate(fetch)
            assert (await first(1), await second("a")) == (1, ["a", 1, (), 2.5, {}])
            assert (first.__name__, second.__name__) == ("give", "fetch")

    async def test_options_can_be_given_along_with_the_function(self):
        """Decorating without the @ needs no second pair of parentheses. A task without a name gets the function's."""
        task = async_plus.watched(give, name="job")(1)
        assert (await task, task.get_name()) == (1, "job")
        task = async_plus.watched(give)(1)
        assert (await task, task.get_name()) == (1, "give")

        assert await async_plus.supervised(give, delays=[0])(1) == 1

    async def test_what_a_task_of_watched_runs_is_the_users_own_coroutine(self):
        """No wrapper stands between the task and the function, so that names and stacks stay true."""

        @async_plus.watched
        async def wait(future):
            return await future

        future = asyncio.get_running_loop().create_future()
        task = wait(future)
        coroutine = task.get_coro()

        assert (coroutine.__qualname__, coroutine.cr_code) == (wait.__qualname__, wait.__wrapped__.__code__)
        future.set_result(1)
        assert await task == 1

    @few_keeping_decorators
    async def test_a_coroutine_carries_the_name_of_the_function(self, decorate):
        """What is parked, forgotten or cancelled is told by its own name, not by a wrapper's."""
        for fn, name in [
            (fetch, "fetch"),
            (functools.partial(fetch), "fetch"),
            (Poller(), "Poller"),
            (functools.partial(Poller()), "Poller"),
            (AsyncMock(spec=fetch), "AsyncMock"),
        ]:
            coroutine = decorate(fn)("a")
            coroutine.close()
            assert (coroutine.__name__, coroutine.__qualname__) == (name, name)


class TestFace:
    """A decorated function looks like the function."""

    @any_decorator
    def test_names_docs_and_defaults_are_kept(self, decorate):
        """All that can be asked of a function is answered by the function."""
        face = decorate(fetch)

        for attribute in (
            "__name__",
            "__qualname__",
            "__module__",
            "__doc__",
            "__annotations__",
            "__defaults__",
            "__kwdefaults__",
            "__globals__",
            "__closure__",
        ):
            assert getattr(face, attribute) == getattr(fetch, attribute), attribute
        assert inspect.getdoc(face) == "Fetch it."
        assert inspect.getsource(face) == inspect.getsource(fetch)
        assert inspect.isfunction(face)
        assert isinstance(face, types.FunctionType)
        assert callable(face)

    @any_decorator
    def test_its_annotations_are_kept_whatever_is_asked_of_its_class(self, decorate):
        """Once asked for its annotations, a class has some, and its instances would show these instead."""
        face = decorate(fetch)
        assert type(face).__annotations__ == {}

        assert face.__annotations__ == fetch.__annotations__
        assert not hasattr(decorate(Poller()), "__annotations__")

        face = decorate(types.FunctionType(fetch.__code__, globals()))
        face.__annotations__ = {"url": str}
        assert face.__annotations__ == inspect.unwrap(face).__annotations__ == {"url": str}

    @any_decorator
    def test_the_signature_is_kept(self, decorate):
        """With the annotations, as text and as types; both are what web frameworks read."""
        face = decorate(fetch)

        assert inspect.signature(face) == inspect.signature(fetch)
        assert inspect.signature(face, eval_str=True) == inspect.signature(fetch, eval_str=True)
        assert typing.get_type_hints(face) == typing.get_type_hints(fetch)
        assert typing.get_type_hints(face)["return"] == list[Url]

    @any_decorator
    def test_the_function_itself_can_be_had(self, decorate):
        """`inspect.unwrap` leads to it, however many decorators there are."""
        assert inspect.unwrap(decorate(fetch)) is fetch

    @pytest.mark.parametrize("decorate", [async_plus.watched, async_plus.supervised, async_plus.impatient(log_after=5)])
    def test_wrapped_is_the_function(self, decorate):
        """One decorator, one step."""
        assert decorate(fetch).__wrapped__ is fetch

    @any_decorator
    def test_the_signature_of_partials_and_objects_is_kept(self, decorate):
        """They have no name, but parameters."""
        partial = functools.partial(fetch, "a", limit=1)

        assert inspect.signature(decorate(partial)) == inspect.signature(partial)
        assert inspect.signature(decorate(Poller())) == inspect.signature(Poller())
        assert not hasattr(decorate(partial), "__name__")
        assert not hasattr(decorate(Poller()), "__code__")

    @keeping_decorator
    @pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is new in 3.12")
    def test_type_parameters_are_kept(self, decorate):
        """``async def first[T](...)`` keeps its T."""
        namespace = {}
        exec("async def first[T](items: list[T]) -> T: ...", namespace)

        assert decorate(namespace["first"]).__type_params__ == namespace["first"].__type_params__ != ()

    @any_decorator
    def test_its_text_names_decorator_and_function_and_shows_nothing_else(self, decorate):
        """A partial's own text shows its arguments, and they may be secret."""
        outermost = "impatient" if decorate is KEEPING["impatient-options"] else None
        face = decorate(functools.partial(fetch, "secret"))

        assert repr(face) == str(face) == f"{face}"
        found = repr(face).removesuffix(f" fetch at {id(face):#x}>")
        names = {outermost} if outermost else {"watched", "supervised", "impatient", "entry_point"}
        assert found.removeprefix("<@") in names

    def test_the_text_of_each_decorator(self):
        """It tells which one is outermost."""
        for decorate, name in [
            (async_plus.watched, "watched"),
            (async_plus.supervised, "supervised"),
            (async_plus.impatient(log_after=5), "impatient"),
            (async_plus.entry_point, "entry_point"),
        ]:
            face = decorate(Poller())
            assert repr(face) == f"<@{name} Poller at {id(face):#x}>"

    @any_decorator
    def test_it_equals_what_it_wraps(self, decorate):
        """It hashes alike, too: as a key, and as a callback to be removed, it is the function."""
        face = decorate(fetch)

        assert face == face
        assert face == fetch
        assert face != give
        assert hash(face) == hash(fetch)
        assert {face: 1}[fetch] == 1

    @any_decorator
    def test_it_can_be_referred_to_weakly(self, decorate):
        """Signal libraries hold their callbacks so. When it is dropped it goes at once, with no garbage collector."""

        async def local():
            pass

        face = decorate(local)
        references = [weakref.ref(face), weakref.ref(local)]
        assert references[0]() is face

        gc.disable()
        try:
            del face, local
            assert [reference() for reference in references] == [None, None]
        finally:
            gc.enable()

    @any_decorator
    def test_a_copy_is_the_function_itself(self, decorate):
        """As with plain functions, deep or not, alone or inside of something."""
        face = decorate(fetch)

        assert copy.copy(face) is face
        assert copy.deepcopy(face) is face
        assert copy.deepcopy([face])[0] is face


class TestPickling:
    @pytest.mark.parametrize("fn", PICKLABLE, ids=lambda fn: fn.__qualname__)
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_it_is_pickled_by_its_name(self, fn, protocol):
        """As functions are: what comes back is the decorated function itself."""
        assert pickle.loads(pickle.dumps(fn, protocol)) is fn
        assert pickle.loads(pickle._dumps(fn, protocol)) is fn  # the one in Python, whose ways differ

    @any_decorator
    def test_one_that_cannot_be_found_is_refused(self, decorate):
        """Under its name there is something else, or nothing, so it could not come back as it went."""
        with pytest.raises(pickle.PicklingError, match="not the same object"):
            pickle.dumps(decorate(fetch))

        async def local():
            pass

        # Pickle itself changed its mind about the error.
        with pytest.raises((AttributeError, pickle.PicklingError), match="<locals>"):
            pickle.dumps(decorate(local))

    @any_decorator
    @pytest.mark.parametrize("fn", [functools.partial(fetch), Poller()], ids=["partial", "Poller"])
    def test_what_has_no_name_is_refused(self, decorate, fn):
        """A partial or an object is reachable under no name that is known."""
        with pytest.raises(pickle.PicklingError) as caught:
            pickle.dumps(decorate(fn))

        assert str(caught.value) == f"a decorated {type(fn).__name__} has no name to pickle it by"


class TestOptions:
    def test_help_shows_the_options_of_supervised(self):
        """Although it passes them on as they are: `help` and editors tell names and defaults."""
        signature = inspect.signature(async_plus.supervised)
        [first, *options] = signature.parameters.values()

        assert (first.name, first.kind) == ("fn", inspect.Parameter.POSITIONAL_ONLY)
        assert {option.name: option.default for option in options} == {
            "delays": (0, 1, 10, 60),
            "random_shift": 0,
            "reset_after": None,
            "on": Exception,
            "restart": "on_error",
            "max_restarts": None,
            "heartbeat": None,
            "ready": False,
            "name": None,
        }
        assert {option.kind for option in options} == {inspect.Parameter.KEYWORD_ONLY}
        assert "restart: 'RestartWhen' = 'on_error'" in pydoc.render_doc(async_plus.supervised)

    def test_what_help_shows_is_what_type_checkers_see(self):
        """The options are spelled out once more for them, and must not drift from the real ones."""
        *_, with_options = typing.get_overloads(async_plus.supervised)
        [_, *shown] = inspect.signature(async_plus.supervised).parameters.values()

        assert list(inspect.signature(with_options).parameters.values()) == shown

    def test_an_unknown_option_of_supervised_is_refused_with_those_there_are(self):
        """A misspelled option is told at once, by the name of the decorator."""
        with pytest.raises(TypeError) as caught:
            async_plus.supervised(delay=[1])

        assert str(caught.value) == (
            "@supervised has no option 'delay': "
            "it has delays, random_shift, reset_after, on, restart, max_restarts, heartbeat, ready, name"
        )

    @pytest.mark.parametrize(
        ("decorator", "message"),
        [
            (async_plus.watched, "watched() got an unexpected keyword argument 'delay'"),
            (async_plus.impatient, "impatient() got an unexpected keyword argument 'delay'"),
        ],
        ids=["watched", "impatient"],
    )
    def test_an_unknown_option_of_the_others_is_refused(self, decorator, message):
        """By Python itself."""
        with pytest.raises(TypeError) as caught:
            decorator(delay=[1])

        assert str(caught.value) == message

    async def test_the_options_of_watched_reach_its_tasks(self, caplog):
        """Name and handler are those of `launch_watched`."""
        handled = []

        @async_plus.watched(name="job", on_exception=lambda task, exc: handled.append((task, exc)))
        async def fail():
            raise ValueError

        task = fail()
        await asyncio.wait([task])

        assert (task.get_name(), handled, caplog.records) == ("job", [(task, task.exception())], [])

    async def test_without_a_loop_a_watched_call_is_refused(self):
        """It says what is missing, and the coroutine is closed: no warning follows."""
        watched = async_plus.watched(fetch)

        with pytest.raises(RuntimeError) as caught:
            await asyncio.get_running_loop().run_in_executor(None, watched, "a")

        assert str(caught.value) == "a watched task needs a running event loop: launch it from a coroutine"
