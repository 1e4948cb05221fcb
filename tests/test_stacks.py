"""Where is this task parked: the walk from a task to its innermost frame. (On what: test_stacks_waiters.py.)"""

from __future__ import annotations

import asyncio
import inspect
import pathlib
import subprocess
import sys
import textwrap
import threading
import types

import pytest
from parked import Opaque
from places import functions, place

from async_plus import stacks
from async_plus.stacks import Parked, Place, chain, name_of, parked, waiting_for


class TestPlace:
    def test_a_place_reads_as_file_line_and_function(self):
        """str() of a Place is what a log line shows."""
        assert str(Place("/app/pool.py", 88, "acquire")) == "/app/pool.py:88 in acquire"

    def test_without_an_instruction_it_is_the_first_line_of_the_code(self):
        """A negative offset means the code as a whole."""
        code = place.__code__

        assert Place.from_code(code) == Place(code.co_filename, code.co_firstlineno, "place")

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
        assert found.parked() == Parked(place(handler, "async def"), "nothing, it has not started")
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
        assert found.parked() == Parked(place(decode, "return"), "nothing, it is running")

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

        assert found == [Parked(place(blocked, "looked.wait()"), "nothing, it is running")]

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

        assert parked(task) == Parked(place(handler, "await future"), "nothing, it is ready to run")
        assert waiting_for(task) == []
        await task

    async def test_a_task_in_a_bare_yield_is_ready(self):
        """sleep(0) waits for nothing but its turn."""

        async def handler():
            for _ in range(3):
                await asyncio.sleep(0)

        task = asyncio.create_task(handler())
        await asyncio.sleep(0)

        assert parked(task) == Parked(place(handler, "await asyncio.sleep"), "nothing, it is ready to run")
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
