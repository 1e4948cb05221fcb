"""Where is this task parked: the walk from a task to its innermost frame. (On what: test_stacks_waiters.py.)"""

from __future__ import annotations

import asyncio
import gc
import inspect
import pathlib
import subprocess
import sys
import textwrap
import threading
import types
import weakref

import pytest

from async_plus import stacks
from async_plus.stacks import Parked, Place, chain, name_of, parked, waiting_for
from async_plus.stacks.walk import MAX_STEPS


def line(function, text):
    """The place in *function* that reads *text*."""
    lines, first = inspect.getsourcelines(function)
    [number] = [number for number, code in enumerate(lines, first) if text in code and "line(" not in code]
    return Place(__file__, number, inspect.unwrap(function).__name__)


def functions(found):
    """The names along a chain."""
    return [link.name.rpartition(".")[2] for link in found.links]


@pytest.fixture
async def start():
    """Start tasks, let each run until it is parked, and cancel them in the end."""
    tasks = []

    async def start(coroutine, *, name=None, factory=asyncio.create_task):
        task = factory(coroutine)
        tasks.append(task)
        if name is not None:
            task.set_name(name)
        for _ in range(3):
            await asyncio.sleep(0)
        return task

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class TestPlace:
    def test_a_place_reads_as_file_line_and_function(self):
        """str() of a Place is what a log line shows."""
        assert str(Place("/app/pool.py", 88, "acquire")) == "/app/pool.py:88 in acquire"

    def test_without_an_instruction_it_is_the_first_line_of_the_code(self):
        """A negative offset means the code as a whole."""
        code = line.__code__

        assert Place.from_code(code) == Place(__file__, code.co_firstlineno, "line")

    def test_behind_the_last_instruction_is_the_last_line(self):
        """An offset that does not belong to the code is no error."""
        code = compile("def f():\n    pass\n    return 7\n", "/app/f.py", "exec").co_consts[0]

        assert Place.from_code(code, 100_000) == Place("/app/f.py", 3, "f")

    def test_its_line_is_the_one_that_python_itself_would_tell(self):
        """For every instruction, also for those the compiler made up, it is a line of the function."""
        frame = None

        async def multiline():
            nonlocal frame
            async with contextlike():
                for _ in range(
                    len("ab"),
                ):
                    frame = sys._getframe()
                    await types.coroutine(
                        yield_once,
                    )()

        class contextlike:  # noqa: N801
            async def __aenter__(self):
                await types.coroutine(yield_once)()

            async def __aexit__(self, *exc_info):
                await types.coroutine(yield_once)()

        def yield_once():
            yield

        coroutine = multiline()
        for _ in range(4):
            coroutine.send(None)
            suspended = coroutine.cr_frame
            assert Place.from_code(suspended.f_code, suspended.f_lasti).lineno == suspended.f_lineno
        coroutine.close()

    def test_an_instruction_without_a_line_belongs_to_the_one_before(self):
        """Code that the compiler made up must not send the reader to the top of the function."""
        code = compile("async def f():\n    async with a() as b:\n        await b\n", "/app/f.py", "exec").co_consts[0]
        lines = [(start, number) for start, _, number in code.co_lines()]
        [(offset, before)] = [
            (start, lines[index - 1][1])
            for index, (start, number) in enumerate(lines)
            if number is None and lines[index - 1][1] is not None
        ][:1]

        assert Place.from_code(code, offset).lineno == before


class TestWhoseCode:
    @pytest.mark.parametrize(
        ("filename", "user", "internal"),
        [
            (asyncio.queues.__file__, False, True),
            (stacks.__file__, False, True),
            (str(pathlib.Path(stacks.__file__).parent.with_name("engine") / "scope.py"), False, True),
            ("uvloop/loop.pyx", False, True),
            (inspect.__file__, False, False),
            ("<frozen importlib._bootstrap>", False, False),
            (inspect.__file__.replace("inspect.py", "site-packages/aiohttp/client.py"), True, False),
            (inspect.__file__.replace("inspect.py", "dist-packages/aiohttp/client.py"), True, False),
            ("/app/pool.py", True, False),
            ("app/compiled.pyx", True, False),
            ("<string>", True, False),
            ("<stdin>", True, False),
            (__file__, True, False),
        ],
    )
    def test_code_is_told_apart_by_its_file(self, filename, user, internal):
        """Installed packages and code without a file are the user's; the standard library and async_plus are not."""
        assert (stacks.is_user_code(filename), stacks.is_internal(filename)) == (user, internal)

    def test_async_plus_is_no_user_code_when_it_is_installed(self, monkeypatch):
        """In site-packages it is still told from the packages around it."""
        site_packages = inspect.__file__.replace("inspect.py", "site-packages/")
        monkeypatch.setattr(stacks.places, "_ASYNC_PLUS", site_packages + "async_plus/")

        assert not stacks.is_user_code.__wrapped__(site_packages + "async_plus/engine/scope.py")
        assert stacks.is_user_code.__wrapped__(site_packages + "async_plus_users/scope.py")


class TestStates:
    async def test_a_task_that_did_not_run_yet_is_new(self):
        """It stands at its first line and waits for nothing."""

        async def handler():
            await asyncio.Event().wait()

        coroutine = handler()
        found = chain(coroutine)
        coroutine.close()

        assert (found.state, functions(found)) == ("new", ["handler"])
        assert found.parked() == Parked(line(handler, "async def"), "nothing, it has not started")
        assert waiting_for(found) == []

    async def test_a_running_task_shows_the_calls_it_is_in_the_middle_of(self):
        """A running coroutine does not know what it awaits; the stack of the thread does."""

        def decode():
            return chain(task)

        async def inner():
            return decode()

        async def handler():
            nonlocal task
            task = asyncio.current_task()
            return await inner()

        task = None
        found = await asyncio.create_task(handler())

        assert (found.state, functions(found)) == ("running", ["handler", "inner", "decode"])
        assert found.parked() == Parked(line(decode, "return"), "nothing, it is running")

    async def test_a_running_generator_and_async_generator_are_seen_as_running(self):
        """Asked from inside themselves, they are the end of the chain."""

        @types.coroutine
        def generator():
            return chain(me)
            yield

        async def async_generator():
            yield chain(me)

        me = generator()
        inside = await me
        assert (inside.state, functions(inside)) == ("running", ["generator"])

        me = async_generator()
        inside = await anext(me)
        assert (inside.state, functions(inside)) == ("running", ["async_generator"])
        await me.aclose()

    async def test_a_task_running_in_another_thread_is_seen_from_outside(self):
        """A watchdog thread finds the line its loop is blocked on."""
        looked, found = threading.Event(), []

        def watch():
            found.append(parked(task))
            looked.set()

        async def blocked():
            # One line, so that it does not matter how far it got when the thread looks.
            return thread.start(), looked.wait()

        async def handler():
            nonlocal task
            task = asyncio.current_task()
            await blocked()

        task, thread = None, threading.Thread(target=watch)
        await handler()
        thread.join()

        assert found == [Parked(line(blocked, "looked.wait()"), "nothing, it is running")]

    def test_a_coroutine_run_by_hand_in_a_finished_thread_has_only_itself(self):
        """When no thread's stack holds the frame any more, what is known is shown."""
        frame = types.SimpleNamespace()

        assert stacks.walk._calls_below(frame) == []

    async def test_a_task_whose_wait_is_over_is_ready(self, start):
        """Its future is done; only the loop has not come round yet."""
        future = asyncio.get_running_loop().create_future()

        async def handler():
            await future

        task = await start(handler())
        future.set_result(None)

        assert parked(task) == Parked(line(handler, "await future"), "nothing, it is ready to run")
        assert waiting_for(task) == []
        await task

    async def test_a_task_in_a_bare_yield_is_ready(self):
        """sleep(0) waits for nothing but its turn."""

        async def handler():
            for _ in range(3):
                await asyncio.sleep(0)

        task = asyncio.create_task(handler())
        await asyncio.sleep(0)

        assert parked(task) == Parked(line(handler, "await asyncio.sleep"), "nothing, it is ready to run")
        await task

    async def test_a_cancelled_task_that_did_not_hear_of_it_yet_is_ready(self, start):
        """Its cancellation reaches it in the loop's next round."""
        task = await start(asyncio.Event().wait())
        task.cancel()

        assert str(parked(task)) == "on nothing, it is ready to run"

    async def test_a_done_task_has_no_frames(self):
        """It is not asked for its coroutine: for one that ended in its eager first step that can crash (gh-122332)."""

        async def handler():
            pass

        task = asyncio.create_task(handler())
        has_a_coroutine = not task.done()
        await task
        found = chain(task)

        assert (found.state, found.links, str(found.parked())) == ("done", [], "on nothing, it is done")
        assert name_of(task) == (handler.__qualname__ if has_a_coroutine else "Task")

    def test_a_closed_coroutine_is_done(self):
        """There is nothing left to walk."""

        async def handler():
            pass

        coroutine = handler()
        coroutine.close()

        assert chain(coroutine).state == "done"

    async def test_a_plain_future_has_no_frames_either(self):
        """It is parked or done, and known by its type."""
        future = asyncio.get_running_loop().create_future()
        assert (chain(future).state, str(parked(future)), waiting_for(future)) == ("parked", "on Future", [future])

        future.set_result(None)
        assert (chain(future).state, waiting_for(future)) == ("done", [])

    @pytest.mark.parametrize("thing", [7, "text", object(), asyncio.sleep, {}])
    def test_anything_else_is_known_by_its_type(self, thing):
        """A wrong argument in the middle of a report must not end the report."""
        assert str(parked(thing)) == f"on {type(thing).__name__}"
        assert waiting_for(thing) == []

    def test_none_waits_for_nothing(self):
        """The end of every chain is a case of its own."""
        assert chain(None).state == "ready"

    def test_a_chain_shows_its_state(self):
        """For debugging by eye."""
        assert repr(chain(7)) == "<Chain parked, 0 links>"


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
        assert str(found.parked()) == f"at {line(items, 'queue.get()')} on Queue.get"
        assert found.places()[:3] == (
            line(consume, "async for"),
            line(doubled, "async for"),
            line(items, "queue.get()"),
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
        assert found.parked() == Parked(line(generator, "Event().wait()"), "Event.wait")

    async def test_the_walk_goes_through_wait_for(self, start):
        """Also on 3.11, where wait_for runs its coroutine in a task of its own."""

        async def get():
            await asyncio.Queue().get()

        async def consume():
            await asyncio.wait_for(asyncio.wait_for(get(), 60), 60)

        found = chain(await start(consume()))

        assert functions(found) == ["consume", "wait_for", "wait_for", "get", "get"]
        assert found.parked() == Parked(line(get, "Queue()"), "Queue.get")

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
        assert found.parked() == Parked(line(old_style, "yield from"), "Event.wait")

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
        assert found.parked() == Parked(line(handler, "await NoCode"), "Event.wait")

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

        assert parked(task) == Parked(line(handler, "await Opaque"), "task 'other'")
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


async def forever():
    await asyncio.Queue().get()


async def aloof(future):
    await future


class Compiled:
    """What a Cython coroutine shows of itself, around a coroutine that runs."""

    cr_code = compile("\n" * 11 + "async def fetch(): pass", "app/client.pyx", "exec").co_consts[0]
    cr_await = property(lambda self: self.coroutine)
    cr_running = False

    def __init__(self, coroutine):
        self.coroutine = coroutine
        self.__qualname__ = "Client.fetch"

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.coroutine.send(None)

    def throw(self, error):
        return self.coroutine.throw(error)

    def close(self):
        self.coroutine.close()


class Opaque:
    """An awaitable that is its own iterator, yields a future, and does everything wrong that can be."""

    def __init__(self, future):
        object.__setattr__(self, "future", future)

    def __await__(self):
        return self

    def __next__(self):
        future = object.__getattribute__(self, "future")
        if future.done():
            raise StopIteration
        future._asyncio_future_blocking = True
        return future

    def throw(self, error):
        raise error

    def close(self):
        pass

    def hostile(self, *args):
        raise RuntimeError("a secret")

    __getattr__ = __repr__ = __str__ = __eq__ = __bool__ = __len__ = hostile
    __hash__ = None
    __class__ = property(hostile)


class TestStart:
    async def test_links_further_out_have_no_say_in_what_is_waited_on(self, start, monkeypatch):
        """Whoever reports a wait inside a function is not told of that function."""
        monkeypatch.setattr(stacks.waiters, "_registered", {})

        async def acquire():
            await asyncio.Event().wait()

        stacks.register_waiter(acquire, lambda variables: "the pool")
        found = chain(await start(acquire()))

        assert found.parked() == Parked(line(acquire, "Event()"), "the pool")
        assert found.parked(1) == Parked(line(acquire, "Event()"), "Event.wait")
        assert found.parked(7) == Parked(line(acquire, "Event()"), "Future")


class TestNames:
    async def test_a_coroutine_is_named_by_its_qualname(self):
        """So are the generators, and a task by its coroutine."""

        async def fetch():
            pass

        async def items():
            yield

        def old_style():
            yield

        prefix = "TestNames.test_a_coroutine_is_named_by_its_qualname.<locals>."
        coroutine = fetch()
        task = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)

        assert [name_of(thing) for thing in (coroutine, items(), old_style(), task)] == [
            prefix + "fetch",
            prefix + "items",
            prefix + "old_style",
            "Event.wait",
        ]
        coroutine.close()
        task.cancel()
        await asyncio.wait([task])

    async def test_anything_else_is_named_by_its_type(self):
        """repr() and str() of it are never taken: they show results and arguments."""
        future = asyncio.get_running_loop().create_future()

        class Metaclass(type):
            __name__ = property(lambda cls: pytest.fail("the user's code was run"))

        class Odd(metaclass=Metaclass):
            pass

        class Imposter:
            cr_await = None

            def __init__(self):
                self.__qualname__ = None

        assert [name_of(thing) for thing in (future, 7, Opaque(future), Odd(), Imposter())] == [
            "Future",
            "int",
            "Opaque",
            "Odd",
            "Imposter",
        ]


class TestHostility:
    async def test_a_hostile_awaitable_does_not_break_the_walk(self, start):
        """Broken __getattr__, __class__, __eq__, __bool__ and __repr__ are never met."""
        future = asyncio.get_running_loop().create_future()

        async def handler(awaitable):
            await awaitable

        task = await start(handler(Opaque(future)))

        assert parked(task) == Parked(line(handler, "await awaitable"), "Future")
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
        assert parked(task) == Parked(line(handler, "await future"), "Broken")
        assert waiting_for(task) == []

        future.asked = True
        assert str(parked(future)) == "on Broken"
        assert parked(task) == Parked(line(handler, "await future"), "Broken")
        future.asked = False

    async def test_a_task_that_raises_shows_what_was_found(self, start):
        """A subclass that hides what the walk needs, as the last resort."""

        class Hidden(asyncio.Task):
            _fut_waiter = property(lambda self: 1 / 0)

        loop = asyncio.get_running_loop()
        task = await start(forever(), factory=lambda coroutine: Hidden(coroutine, loop=loop))

        assert parked(task) == Parked(line(forever, "get()"), "Queue.get")

        task = await start(aloof(loop.create_future()), factory=lambda coroutine: Hidden(coroutine, loop=loop))
        assert parked(task) == Parked(line(aloof, "await future"), "something unknown")

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


class TestImport:
    def test_importing_it_makes_no_event_loop_and_runs_no_hooks(self):
        """It may be imported anywhere, also late and inside of a running loop."""
        program = """
            import asyncio, sys

            async def main():
                def refuse(*args):
                    raise AssertionError("an async generator was made")

                sys.set_asyncgen_hooks(refuse, refuse)
                asyncio.new_event_loop = asyncio.events.new_event_loop = refuse
                from async_plus import stacks
                print(stacks.parked(asyncio.current_task()).on)

            asyncio.run(main())
        """
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
            capture_output=True,
            text=True,
            check=False,
        )

        assert (done.stdout, done.stderr) == ("nothing, it is running\n", "")
