"""The way from a task to its innermost frame, whatever is in between. (Each kind of coroutine: test_stacks_kinds.)"""

from __future__ import annotations

import asyncio
import sys
import types

import pytest
from parked import Compiled, Opaque
from places import functions, place

from async_plus import stacks
from async_plus.stacks import Parked, Place, chain, name_of, parked, waiting_for
from async_plus.stacks.walk import MAX_STEPS


class TestWalk:
    async def test_the_walk_goes_through_async_generators(self, start):
        """`async for` over a generator over a generator ends in the innermost."""
        queue = asyncio.Queue()

        async def items():
            while True:
                yield await queue.get()

        async def doubled():
            async for item in items():
                yield item * 2

        async def consume():
            async for _ in doubled():
                pass

        task = await start(consume())
        found = chain(task)

        assert functions(found) == ["consume", "doubled", "items", "get"]
        assert str(found.parked()) == f"at {place(items, 'queue.get()')} on Queue.get"
        assert found.places()[:3] == (
            place(consume, "async for"),
            place(doubled, "async for"),
            place(items, "queue.get()"),
        )
        assert (found.links[0].filename, found.links[0].owner) == (__file__, task.get_coro())

    @pytest.mark.parametrize("call", ["__anext__", "asend", "athrow", "aclose", "anext", "anext_default"])
    async def test_the_walk_goes_through_every_way_to_drive_an_async_generator(self, start, call):
        """Each has an opaque wrapper of its own; anext() with a default wraps one in another."""

        async def generator():
            try:
                yield 1
            finally:
                await asyncio.Event().wait()

        async def consume():
            items = generator()
            await anext(items)
            match call:
                case "asend":
                    await items.asend(Sent())
                case "athrow":
                    await items.athrow(ValueError)
                case "aclose":
                    await items.aclose()
                case "anext":
                    await anext(items)
                case "anext_default":
                    await anext(items, Sent())
                case _:
                    await items.__anext__()

        class Sent:
            """A value on its way into the generator; it must not be taken for the generator."""

            cr_await = property(lambda self: pytest.fail("it was looked into"))

        found = chain(await start(consume()))

        assert functions(found) == ["consume", "generator", "wait"]
        assert found.parked() == Parked(place(generator, "Event().wait()"), "Event.wait")

    async def test_the_walk_goes_through_wait_for(self, start):
        """Also on 3.11, where wait_for runs its coroutine in a task of its own."""

        async def get():
            await asyncio.Queue().get()

        async def consume():
            await asyncio.wait_for(asyncio.wait_for(get(), 60), 60)

        found = chain(await start(consume()))

        assert functions(found) == ["consume", "wait_for", "wait_for", "get", "get"]
        assert found.parked() == Parked(place(get, "Queue()"), "Queue.get")

    async def test_the_walk_goes_through_generator_based_coroutines(self, start):
        """types.coroutine, and an object whose __await__ is a generator."""

        @types.coroutine
        def old_style():
            yield from asyncio.Event().wait()

        class Awaitable:
            def __await__(self):
                return (yield from old_style().__iter__())

        async def handler():
            await Awaitable()

        found = chain(await start(handler()))

        assert functions(found) == ["handler", "__await__", "old_style", "wait"]
        assert found.parked() == Parked(place(old_style, "yield from"), "Event.wait")

    async def test_the_walk_goes_through_coroutine_wrappers(self, start):
        """An __await__ that hands on a coroutine's own."""

        class Awaitable:
            def __await__(self):
                return asyncio.Event().wait().__await__()

        async def handler():
            await Awaitable()

        assert functions(chain(await start(handler()))) == ["handler", "wait"]

    async def test_the_walk_goes_through_compiled_coroutines(self, start):
        """Cython's coroutines are none of Python's own; they are known by their cr_await."""

        async def handler():
            await Compiled(asyncio.Event().wait())

        task = await start(handler())
        found = chain(task)

        assert functions(found) == ["handler", "fetch", "wait"]
        assert found.places()[1] == Place("app/client.pyx", 12, "fetch")
        assert str(found.parked()) == "at app/client.pyx:12 in fetch on Event.wait"
        assert name_of(found.links[1].owner) == "Client.fetch"

    async def test_a_compiled_coroutine_may_have_no_code(self, start):
        """It is then named, and the place shown is that of its caller."""

        class NoCode(Compiled):
            cr_code = None

        async def handler():
            await NoCode(asyncio.Event().wait())

        found = chain(await start(handler()))

        assert str(found.places()[1]) == "<compiled>:0 in Client.fetch"
        assert found.parked() == Parked(place(handler, "await NoCode"), "Event.wait")

    def test_a_running_compiled_coroutine_is_running(self):
        """Its frames are out of sight."""

        class Running(Compiled):
            cr_running = True

        assert chain(Running(None)).state == "running"

    async def test_an_awaitable_without_frames_is_known_by_what_wakes_its_task(self, start):
        """An iterator written in C, or a class with __next__, shows nothing; the task's future is still known."""
        other = await start(asyncio.Event().wait(), name="other")

        async def handler():
            await Opaque(other)

        task = await start(handler())

        assert parked(task) == Parked(place(handler, "await Opaque"), "task 'other'")
        assert waiting_for(task) == [other]

    async def test_python_tasks_and_futures_are_walked_like_the_c_ones(self, start):
        """Without the C accelerator a future is awaited through a generator."""
        loop = asyncio.get_running_loop()
        future = asyncio.futures._PyFuture(loop=loop)

        async def handler():
            await future

        task = await start(handler(), factory=lambda coroutine: asyncio.tasks._PyTask(coroutine, loop=loop))
        found = chain(task)
        assert (functions(found), found.terminal, found.state) == (["handler"], future, "parked")
        assert (name_of(task), waiting_for(task)) == (handler.__qualname__, [future])

        waiter = await start(asyncio.wait_for(task, None), name="waiter")
        assert str(parked(waiter)) == f"on task {task.get_name()!r}"

        future.set_result(None)
        assert chain(task).state == "ready"
        await asyncio.wait([task, waiter])

    async def test_a_python_futures_iterator_that_is_done_leads_nowhere(self):
        """It holds its future only while it waits."""
        future = asyncio.futures._PyFuture(loop=asyncio.get_running_loop())
        future.set_result(None)
        iterator = future.__await__()
        assert list(iterator) == []

        assert chain(iterator).state == "ready"

    async def test_a_futures_iterator_that_is_done_leads_nowhere(self):
        """The C one lets go of its future too."""
        future = asyncio.get_running_loop().create_future()
        future.set_result(None)
        iterator = iter(future)
        assert list(iterator) == []

        assert chain(iterator).state == "ready"

    def test_a_wrapper_that_holds_nothing_leads_nowhere(self):
        """Cython's are told by their name; their type is not taken for what they hold."""

        class coroutine_wrapper:  # noqa: N801  # the name is the point
            __slots__ = ()

        assert chain(coroutine_wrapper()).state == "ready"

    async def test_an_async_generator_at_hand_waits_for_whoever_drives_it(self):
        """Suspended at its yield, nothing keeps it."""

        async def generator():
            yield 1

        items = generator()
        await anext(items)
        found = chain(items)
        await items.aclose()

        assert (found.state, functions(found)) == ("ready", ["generator"])

    def test_a_chain_that_bites_its_tail_ends(self):
        """Nothing a look-alike does can keep the walk from ending."""

        class Loop(Compiled):
            cr_await = property(lambda self: self)

        class Endless(Compiled):
            cr_await = property(lambda self: kept.append(Endless(None)) or kept[-1])

        kept = []

        assert len(chain(Loop(None)).links) == 1
        assert len(chain(Endless(None)).links) == MAX_STEPS

    if sys.version_info < (3, 12):
        # Later wait_for makes no task, and there is no walk from one task into another.

        async def test_two_tasks_in_wait_for_each_other_are_no_endless_walk(self, start):
            """The walk ends where it comes round to a task it has been in."""

            async def wait_for_the(name):
                await gate.wait()
                await asyncio.wait_for(tasks[name], 60)

            tasks, gate = {}, asyncio.Event()
            tasks["a"] = await start(wait_for_the("b"), name="a")
            tasks["b"] = await start(wait_for_the("a"), name="b")
            gate.set()
            for _ in range(3):
                await asyncio.sleep(0)

            assert functions(chain(tasks["a"])) == ["wait_for_the", "wait_for"] * 2
            assert parked(tasks["a"]).on == "task 'a'"
            assert [waiting_for(task) for task in tasks.values()] == [[tasks["b"]], [tasks["a"]]]

            # Cancelled, each would wait for the other to be cancelled first. Only an error ends it.
            tasks["a"]._fut_waiter.set_exception(ZeroDivisionError)
            await asyncio.wait(tasks.values())
            assert [type(task.exception()) for task in tasks.values()] == [ZeroDivisionError] * 2

    async def test_looking_finds_no_lines_until_they_are_asked_for(self, start, monkeypatch):
        """A snapshot of thousands of tasks groups them first, and asks for few places."""
        monkeypatch.setattr(Place, "from_code", lambda *args: pytest.fail("a line was looked up"))

        found = chain(await start(asyncio.Event().wait()))

        assert (found.on(), waiting_for(found)) == ("Event.wait", [found.terminal])


class TestStart:
    async def test_links_further_out_have_no_say_in_what_is_waited_on(self, start, monkeypatch):
        """Whoever reports a wait inside a function is not told of that function."""
        monkeypatch.setattr(stacks.waiters, "_registered", {})

        async def acquire():
            await asyncio.Event().wait()

        stacks.register_waiter(acquire, lambda variables: "the pool")
        found = chain(await start(acquire()))

        assert found.parked() == Parked(place(acquire, "Event()"), "the pool")
        assert found.parked(1) == Parked(place(acquire, "Event()"), "Event.wait")
        assert found.parked(7) == Parked(place(acquire, "Event()"), "Future")
