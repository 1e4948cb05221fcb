"""Coroutines as objects: which are fresh, and what becomes of those that never start."""

from __future__ import annotations

import asyncio
import inspect
import warnings

import pytest
from tools import Awaitable, Lookalike, closed, forever, give, refused, turns

import async_plus
from async_plus import _coroutines
from async_plus._coroutines import Unstarted, check_fresh, close_unstarted


def suspended():
    """A coroutine in the middle of its work, as one that somebody awaits."""
    coroutine = parked()
    coroutine.send(None)
    return coroutine


async def parked():
    await asyncio.sleep(0)


def ended():
    """A coroutine that has returned."""
    coroutine = give(1)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    return coroutine


class Compiled(Lookalike):
    """A coroutine as Cython makes them: with a frame and what it awaits, and not much else."""

    def __init__(self, coroutine):
        super().__init__(coroutine)
        self.__qualname__ = coroutine.__qualname__

    @property
    def cr_frame(self):
        return self.coroutine.cr_frame

    @property
    def cr_await(self):
        return self.coroutine.cr_await


class TestFresh:
    @pytest.mark.parametrize("kind", [lambda coro: coro, Compiled, Lookalike])
    def test_a_coroutine_that_has_not_started_is_fresh(self, kind):
        """Those of Python, of Cython and of classes that look like one."""
        coroutine = kind(give(1))

        check_fresh("coro", coroutine)

        coroutine.close()

    @pytest.mark.parametrize("kind", [lambda coro: coro, Compiled])
    @pytest.mark.parametrize(
        ("make", "name"),
        [(suspended, "parked"), (ended, "give")],
    )
    def test_one_that_was_awaited_is_refused(self, kind, make, name):
        """To await it again would fail, or break whoever awaits it."""
        coroutine = make()

        with refused(ValueError, f"coro was awaited or closed before: coroutine {name}"):
            check_fresh("coro", kind(coroutine))
        coroutine.close()

    def test_one_that_was_closed_is_refused(self):
        """It will never do anything."""
        coroutine = give(1)
        coroutine.close()

        with refused(ValueError, "argument 1 was awaited or closed before: coroutine give"):
            check_fresh("argument 1", coroutine)

    async def test_the_running_one_is_refused(self):
        """A coroutine cannot wait for itself."""

        async def asks_about_itself():
            name = asks_about_itself.__qualname__
            with refused(ValueError, f"coro was awaited or closed before: coroutine {name}"):
                check_fresh("coro", me)

        me = asks_about_itself()

        await me

    def test_a_lookalike_without_a_name_is_named_by_its_type(self):
        """Nothing of its text is printed, since it may hold anything."""

        class Used(Lookalike):
            cr_frame = None

        with refused(ValueError, f"coro was awaited or closed before: coroutine {Used.__qualname__}"):
            check_fresh("coro", Used(None))

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (give, "the function give (call it)"),
            (suspended, "the function suspended"),
            (Lookalike, "the class Lookalike"),
            ("secret", "str"),
            (5, "int 5"),
            (None, "NoneType"),
            (Awaitable(None), "Awaitable"),
            ([], "list"),
        ],
    )
    def test_anything_else_is_no_coroutine(self, value, shown):
        """The refusal says what it is, by names only."""
        with refused(TypeError, f"coro must be a coroutine, got {shown}"):
            check_fresh("coro", value)


class TestCloseUnstarted:
    """What is refused is closed, so that no "never awaited" follows the error (gh-115957)."""

    @pytest.mark.parametrize(
        "collect",
        [
            lambda *coros: coros,
            list,
            set,
            frozenset,
            lambda *coros: dict(enumerate(coros)),
            lambda *coros: dict(enumerate(coros)).values(),
        ],
        ids=["tuple", "list", "set", "frozenset", "dict", "dict values"],
    )
    def test_coroutines_in_a_collection_are_closed(self, collect):
        """People forget the star in ``try_gather(*coroutines)``."""
        coroutines = [give(1), give(2)]
        collection = collect(*coroutines) if collect not in (list, set, frozenset) else collect(coroutines)

        close_unstarted(collection)

        assert all(map(closed, coroutines))

    def test_each_of_several_values_is_closed(self):
        """A coroutine, one that looks like one, and those in a list."""
        first, second, third = give(1), give(2), give(3)

        close_unstarted(first, Lookalike(second), [third])

        assert all(map(closed, [first, second, third]))

    @pytest.mark.parametrize("kind", [lambda coro: coro, Compiled])
    def test_one_that_somebody_awaits_is_left_alone(self, kind):
        """It is not ours to end."""
        coroutine = suspended()

        close_unstarted(kind(coroutine), [coroutine])

        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED
        coroutine.close()

    async def test_the_running_one_is_left_alone(self):
        """It could not be closed anyway: Python would raise."""

        async def closes_itself():
            close_unstarted(me)
            return "went on"

        me = closes_itself()

        assert await me == "went on"

    def test_an_iterator_is_not_consumed(self):
        """Its items do not exist yet, and taking them would make them."""
        coroutines = iter([give(1)])

        close_unstarted(coroutines)

        [coroutine] = coroutines
        assert not closed(coroutine)
        coroutine.close()

    def test_anything_else_is_none_of_its_business(self):
        """Whatever was passed, the error that is about to be raised is the one to see."""
        close_unstarted(None, 5, "text", give, object(), [1, [2]], ended())

    def test_a_class_that_cannot_be_closed_does_not_hide_the_error(self):
        """What its close() raises matters less than why it is closed."""

        class Broken(Lookalike):
            def close(self):
                raise ZeroDivisionError

        after = give(1)

        close_unstarted(Broken(None), after)

        assert closed(after)


class TestUnstarted:
    def test_what_nobody_took_over_is_closed_with_it(self):
        """The coroutines given to a coroutine that never started die in silence, lists of them too."""
        first, second = give(1), give(2)

        Unstarted((first, [second]))

        assert closed(first)
        assert closed(second)

    def test_what_was_taken_over_is_left_alone(self):
        """Whoever takes it over answers for it."""
        coroutine = give(1)
        held = Unstarted((coroutine,))
        held.aws = ()

        del held

        assert not closed(coroutine)
        coroutine.close()

    @pytest.mark.parametrize(
        "call",
        [
            lambda *aws: async_plus.try_gather(*aws),
            lambda *aws: async_plus.try_gather(*aws, limit=1),
            lambda *aws: async_plus.try_gather(async_plus.try_gather(*aws)),
            lambda *aws: async_plus.impatient(async_plus.try_gather(*aws), log_after=5),
        ],
        ids=["try_gather", "try_gather with a limit", "nested", "impatient"],
    )
    async def test_a_task_cancelled_before_its_first_step_leaves_nothing_unawaited(self, call):
        """The caller was cancelled before it ran a line, so its arguments are nobody's fault."""
        first, second = give(1), give(2)
        # No eager task: that one has no moment before its first step.
        task = asyncio.Task(call(first, second))
        task.cancel()

        await asyncio.wait([task])

        assert task.cancelled()
        del task
        assert closed(first)
        assert closed(second)

    def test_a_gather_that_nobody_awaits_is_warned_of_once(self):
        """One forgotten await is one warning, and it names what was forgotten."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            async_plus.try_gather(give(1), give(2))

        [warning] = caught
        assert str(warning.message) == "coroutine 'try_gather' was never awaited"


class TestCoroutineFunctions:
    def test_a_marked_function_counts_as_a_coroutine_function(self):
        """Frameworks ask for it before they decide how to call a function."""

        @_coroutines.mark_coroutine_function
        def start():
            return forever()

        assert _coroutines.is_coroutine_function(start)
        assert asyncio.iscoroutinefunction(start)

    def test_a_marked_class_has_instances_that_count(self):
        """Such as the callable that a decorator makes."""

        @_coroutines.mark_coroutine_function
        class Starter:
            def __call__(self):
                return forever()

        assert asyncio.iscoroutinefunction(Starter())

    def test_an_unmarked_function_is_none(self):
        """Whatever it returns."""

        def start():
            return forever()

        assert not _coroutines.is_coroutine_function(start)
        assert _coroutines.is_coroutine_function(forever)

    async def test_try_gather_counts_as_one(self):
        """It is awaited like one, although it is a plain function that returns a coroutine."""
        assert asyncio.iscoroutinefunction(async_plus.try_gather)
        gathering = async_plus.try_gather(turns())
        assert gathering.__name__ == gathering.__qualname__ == "try_gather"
        await gathering
