"""Tasks that are made without a way through the loop: only where nobody could tell."""

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
import sys

import pytest
from tools import give

import async_plus
from async_plus.engine import first_hand

variable = contextvars.ContextVar("variable", default="unset")
on_the_default_loop = pytest.mark.asyncio(loop_factories=["default"])


async def by_gather(*coros):
    return await async_plus.try_gather(*coros)


async def by_launch(*coros):
    tasks = [async_plus.launch_watched(coro) for coro in coros]
    return [await task for task in tasks]


async def by_scope(*coros):
    async with async_plus.task_scope() as scope:
        tasks = [scope.launch(coro) for coro in coros]
        await scope.wait(return_when=asyncio.ALL_COMPLETED)
    return [task.result() for task in tasks]


each_way = pytest.mark.parametrize("run", [by_gather, by_launch, by_scope])


async def current_name():
    return asyncio.current_task().get_name()


async def value_of_variable():
    return variable.get()


async def line_that_made_it():
    """Return the file and function that the debug mode names as the origin of the current task."""
    [*_, origin] = asyncio.current_task()._source_traceback
    return origin.filename, origin.name


@pytest.fixture
def asked(monkeypatch):
    """The coroutines that came by a `create_task` put in place of that of all loops."""
    coros = []
    original = asyncio.BaseEventLoop.create_task

    def create_task(loop, coro, **options):
        coros.append(coro.__name__)
        return original(loop, coro, **options)

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_task", create_task)
    return coros


class TestWhoIsAsked:
    @each_way
    @on_the_default_loop
    async def test_a_loop_of_asyncios_own_is_not(self, run):
        """Its `create_task` would do no more than make the task, at a fifth of the whole price."""
        called = set()
        sys.setprofile(lambda frame, event, argument: called.add(frame.f_code))
        try:
            results = await run(give(1), give(2))
        finally:
            sys.setprofile(None)

        assert results == [1, 2]
        assert give.__code__ in called
        assert asyncio.BaseEventLoop.create_task.__code__ not in called

    @each_way
    @on_the_default_loop
    async def test_a_function_in_place_of_asyncios_sees_every_task(self, run, asked):
        """Tracers replace it on the class, and that may be after async_plus was imported and the loop began to run."""
        assert await run(give(1), give(2)) == [1, 2]

        # The first is the test.
        assert asked[1:] == ["give", "give"]

    @each_way
    @on_the_default_loop
    async def test_a_function_in_place_of_the_loops_own_sees_every_task(self, run):
        """It may be replaced on one loop, at any time: here between two launches."""
        loop = asyncio.get_running_loop()
        await run(give(0))
        asked = []

        def create_task(coro, **options):
            asked.append(coro.__name__)
            return type(loop).create_task(loop, coro, **options)

        loop.create_task = create_task
        try:
            assert await run(give(1), give(2)) == [1, 2]
        finally:
            del loop.create_task

        assert asked == ["give", "give"]

    @each_way
    def test_a_class_of_loops_with_a_function_of_its_own_sees_every_task(self, run):
        """A loop that is derived from asyncio's may do more than that."""
        asked = []

        class Loop(asyncio.SelectorEventLoop):
            def create_task(self, coro, **options):
                asked.append(coro.__name__)
                return super().create_task(coro, **options)

        with asyncio.Runner(loop_factory=Loop) as runner:
            assert runner.run(run(give(1), give(2))) == [1, 2]

        # Between the test and the shutdown.
        assert asked[1:3] == ["give", "give"]

    @each_way
    @on_the_default_loop
    async def test_a_task_factory_sees_every_task(self, run):
        """It may be set, and taken away, at any time: here between two launches."""
        loop = asyncio.get_running_loop()
        await run(give(0))
        asked = []

        def factory(loop, coro, **options):
            asked.append(coro.__name__)
            return asyncio.Task(coro, loop=loop, **options)

        loop.set_task_factory(factory)
        try:
            assert await run(give(1), give(2)) == [1, 2]
        finally:
            loop.set_task_factory(None)
        assert await run(give(3)) == [3]

        assert asked == ["give", "give"]

    async def test_only_loops_of_asyncio_start_tasks_in_its_way(self):
        """uvloop, say, which keeps its task factory where only it can see it."""
        loop = asyncio.get_running_loop()

        own = first_hand.own_create_task(loop)

        assert (loop.create_task == own) == isinstance(loop, asyncio.BaseEventLoop)

    @pytest.mark.usefixtures("asked")
    def test_a_tracer_that_came_before_us_is(self):
        """Only asyncio's own function may be left out, and not whatever was in its place at the import."""
        spec = importlib.util.spec_from_file_location("first_hand_again", first_hand.__file__)
        again = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(again)

        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            assert loop.create_task != again.own_create_task(loop)
            assert loop.create_task != first_hand.own_create_task(loop)


class TestWhatIsMade:
    @each_way
    async def test_tasks_are_named_and_have_a_context_as_ever(self, run):
        """A task without a name is numbered, and runs in a copy of the context in which it was launched."""
        variable.set("set")

        first, second, seen = await run(current_name(), current_name(), value_of_variable())

        assert first != second
        assert {name.rstrip("0123456789") for name in (first, second)} == {"Task-"}
        assert seen == "set"

    @each_way
    @on_the_default_loop
    async def test_a_class_in_place_of_the_task_is_taken(self, run, monkeypatch):
        """Some programs replace `asyncio.tasks.Task`, where `create_task` looks it up at each call."""
        made = []

        class Task(asyncio.Task):
            def __init__(self, coro, **options):
                made.append(coro.__name__)
                super().__init__(coro, **options)

        monkeypatch.setattr(asyncio.tasks, "Task", Task)

        assert await run(give(1), give(2)) == [1, 2]

        assert made == ["give", "give"]

    @each_way
    @pytest.mark.asyncio(loop_factories=["debug"])
    async def test_debug_mode_names_the_same_origin(self, run, asked, monkeypatch):
        """The lines of asyncio that make a task are none of its origin, whoever made it."""
        [through_the_loop] = await run(line_that_made_it())
        assert asked[1:] == ["line_that_made_it"]
        monkeypatch.undo()

        [at_first_hand] = await run(line_that_made_it())

        # The tracer is the last one that is not asyncio's.
        assert through_the_loop == (__file__, "create_task")
        module = async_plus.engine.gather if run is by_gather else async_plus.engine.watch
        assert at_first_hand == (module.__file__, "_start" if run is by_gather else "_launch")
