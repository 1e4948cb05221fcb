"""What the walk along a stack stands, and what it leaves behind: nothing."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from parked import Compiled, Opaque, aloof, queue_forever
from places import place

from async_plus import stacks
from async_plus.stacks import Parked, chain, parked, waiting_for


class TestHostility:
    async def test_a_hostile_awaitable_does_not_break_the_walk(self, start):
        """Broken __getattr__, __class__, __eq__, __bool__ and __repr__ are never met."""
        future = asyncio.get_running_loop().create_future()

        async def handler(awaitable):
            await awaitable

        task = await start(handler(Opaque(future)))

        assert parked(task) == Parked(place(handler, "await awaitable"), "Future")
        assert chain(Opaque(future)).parked() == Parked(None, "Opaque")
        future.cancel()
        await asyncio.wait([task])

    async def test_a_look_alike_coroutine_that_raises_ends_the_walk(self):
        """Its attributes are the only code of the user's that the walk runs."""

        class Broken(Compiled):
            cr_await = property(lambda self: 1 / 0)

        assert str(parked(Broken.__new__(Broken))) == "at app/client.pyx:12 in fetch on Broken"

    async def test_a_future_that_raises_is_still_named(self, start):
        """Whatever it does when asked, the report goes on."""

        class Broken(asyncio.Future):
            asked = 0

            def done(self):
                if self.asked:
                    raise asyncio.CancelledError
                return super().done()

            _callbacks = property(lambda self: 1 / 0)

        future = Broken()

        async def handler():
            await future

        task = await start(handler())
        assert parked(task) == Parked(place(handler, "await future"), "Broken")
        assert waiting_for(task) == []

        future.asked = True
        assert str(parked(future)) == "on Broken"
        assert parked(task) == Parked(place(handler, "await future"), "Broken")
        future.asked = False

    async def test_a_task_that_raises_shows_what_was_found(self, start):
        """A subclass that hides what the walk needs, as the last resort."""

        class Hidden(asyncio.Task):
            _fut_waiter = property(lambda self: 1 / 0)

        loop = asyncio.get_running_loop()
        task = await start(queue_forever(), factory=lambda coroutine: Hidden(coroutine, loop=loop))

        assert parked(task) == Parked(place(queue_forever, "get()"), "Queue.get")

        task = await start(aloof(loop.create_future()), factory=lambda coroutine: Hidden(coroutine, loop=loop))
        assert parked(task) == Parked(place(aloof, "await future"), "something unknown")

    async def test_a_name_that_is_no_plain_string_is_made_one(self, start):
        """A subclass of str has a __repr__ and __format__ of its own."""

        class Name(str):
            __repr__ = __format__ = lambda *args: pytest.fail("the user's code was run")

            def __str__(self):
                return self

        task = await start(asyncio.Event().wait())
        task.set_name(Name("worker"))

        async def handler():
            await task

        assert parked(await start(handler())).on == "task 'worker'"


class Thing:
    pass


@pytest.fixture
def no_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_gc")
class TestNothingIsKept:
    async def test_looking_at_a_task_keeps_nothing_alive(self):
        """Not the task, not what its frames refer to, and no cycle is left for the garbage collector."""

        async def handler(thing):
            await asyncio.Event().wait()

        thing = Thing()
        task = asyncio.create_task(handler(thing))
        await asyncio.sleep(0)
        text, found = str(parked(task)), weakref.ref(chain(task).links[-1].owner)
        assert text.endswith("on Event.wait")
        task.cancel()
        await asyncio.wait([task])
        alive = weakref.ref(thing), weakref.ref(task)
        del thing, task
        await asyncio.sleep(0)

        assert [alive[0](), alive[1](), found()] == [None, None, None]

    async def test_looking_at_the_running_task_makes_no_cycle(self):
        """A frame in one of its own variables would be one."""

        def look():
            thing = Thing()
            assert parked(asyncio.current_task()).on == "nothing, it is running"
            return weakref.ref(thing)

        assert look()() is None

    async def test_reading_variables_does_not_pin_them(self, start, monkeypatch):
        """On 3.11 and 3.12 a frame keeps the dict of its f_locals, and with it all that was in it."""
        monkeypatch.setattr(stacks.waiters, "_registered", {})
        first, second = asyncio.Event(), asyncio.Event()

        async def acquire():
            thing = Thing()
            refs.append(weakref.ref(thing))
            await first.wait()
            thing = None
            await second.wait()
            return thing

        refs = []
        stacks.register_waiter(acquire, lambda variables: type(variables["thing"]).__name__)
        task = await start(acquire())
        assert parked(task).on == "Thing"
        first.set()
        for _ in range(3):
            await asyncio.sleep(0)

        assert refs[0]() is None
        assert parked(task).on == "NoneType"
