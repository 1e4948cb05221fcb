"""What a snapshot stands, and a dump: objects that lie and raise, names of any length, chains of any depth."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading

import pytest
from tools import forever, start, turns

from async_plus import dump_on_signal, health, register_waiter, snapshot
from async_plus.diagnostics import ask, dump

pytestmark = pytest.mark.usefixtures("no_handler_is_left")


async def enter(lock):
    async with lock:
        await forever()


def raising(*names):
    """A class of tasks of which these attributes raise."""

    def fail(self, *args):
        raise ValueError("swordfish")

    attributes = {name: property(fail) if name.startswith("_") else fail for name in names}
    return type("Hostile", (asyncio.Task,), attributes)


class TestTasks:
    @pytest.mark.asyncio(loop_factories=["default"])
    @pytest.mark.parametrize("names", [["get_name"], ["_callbacks"], ["_coro"], ["_fut_waiter", "cancelling"]])
    async def test_a_task_whose_attributes_raise_is_told_all_the_same(self, tasks, names):
        """As one that is waited for, one that holds a lock, and one that waits for that."""
        lock, loop = asyncio.Lock(), asyncio.get_running_loop()
        hostile = raising(*names)
        tasks += (hostile(enter(lock), loop=loop) for _ in range(3))
        tasks.append(asyncio.create_task(asyncio.wait(list(tasks))))
        await turns()

        text = str(snapshot())

        assert text.startswith("5 tasks: 1 running, 4 parked")
        assert "swordfish" not in text
        assert health().live

    @pytest.mark.asyncio(loop_factories=["default"])
    async def test_a_name_that_is_no_text_is_none(self, tasks):
        """The type is told in its place."""

        class Numbered(asyncio.Task):
            def get_name(self):
                return 5

        lock, loop = asyncio.Lock(), asyncio.get_running_loop()
        tasks += (Numbered(enter(lock), loop=loop) for _ in range(2))
        await turns()

        assert "'Numbered' (enter) parked on Lock.acquire, held by 'Numbered'" in str(snapshot())

    async def test_a_lock_whose_attributes_raise_is_told_all_the_same(self, tasks):
        """It is neither compared nor shown, nor asked for what it may not have."""

        class Hostile(asyncio.Semaphore):
            def fail(self, *args):
                raise ValueError("swordfish")

            __getattr__ = __eq__ = __hash__ = __repr__ = __bool__ = fail

        lock = Hostile(1)

        async def twice():
            async with lock:
                await enter(lock)

        tasks.append(await start(twice(), "a"))

        assert "possible deadlock: 'a' -> 'a'" in str(snapshot()).splitlines()

    async def test_the_variables_that_a_function_has_taken_for_itself_stay(self, tasks):
        """Until 3.12, what locals() gave to it is the very dict that we look into."""

        class Block:
            async def __aenter__(self):
                number = 5
                self.kept = locals()
                await lock.acquire()
                raise AssertionError(number)

            async def __aexit__(self, *exc_info):
                raise AssertionError

        async def hold():
            async with lock, block:
                raise AssertionError

        lock, block = asyncio.Lock(), Block()
        tasks += [await start(hold(), "a"), await start(enter(lock), "b")]

        assert "'b' (enter) parked on Lock.acquire, held by 'a'" in str(snapshot())
        assert (block.kept["number"], block.kept["self"]) == (5, block)


class TestTexts:
    async def test_a_name_of_a_million_characters_is_cut(self, tasks):
        """A signal handler writes it, and a terminal shows it."""
        tasks.append(await start(forever(), "x" * 1_000_000))

        snap = snapshot()
        assert 2_000 < len(str(snap)) < 3_000
        assert "…" in str(snap)
        assert [len(info.names[0]) for info in snap.tasks if info.coroutine == "forever"] == [1_000_000]

    async def test_two_texts_that_only_look_like_sleeps_are_told_as_they_are(self, tasks):
        """What a function of the user's says may be anything."""

        async def wait(text):
            await forever()
            raise AssertionError(text)

        register_waiter(wait, lambda variables: f"sleep, {variables['text']} s left")
        tasks += [await start(wait("1.2.3")), await start(wait("4"))]

        assert "on sleep, 4 s left; sleep, 1.2.3 s left" in " ".join(str(snapshot()).split())

    async def test_the_file_of_a_thread_cannot_reach_the_terminal(self, written):
        """A name may be chosen by whoever wrote the code, and by whoever made that write it."""
        leave, scope = threading.Event(), {}
        exec(compile("def work(leave):\n    leave.wait()", "/tmp/\x1b[31m\nevil.py", "exec"), scope)
        thread = threading.Thread(target=scope["work"], args=[leave])
        thread.start()
        with dump_on_signal():
            signal.raise_signal(signal.SIGUSR1)
        leave.set()
        thread.join()

        assert "  /tmp/?[31m?evil.py:2 in work\n" in written()


class TestDepth:
    async def descend(self, levels):
        """Await oneself that often."""
        await (self.descend(levels - 1) if levels else forever())

    @pytest.mark.asyncio(loop_factories=["default"])
    async def test_deep_chains_are_told_from_the_depth_of_another_recursion(self, tasks):
        """To look at them takes no more of the stack than to look at any others."""
        tasks += [await start(self.descend(300)) for _ in range(3)]
        limit = sys.getrecursionlimit()

        def look(levels):
            return look(levels - 1) if levels else snapshot()

        snap = look(limit - 350)

        [crowd] = [info for info in snap.tasks if info.coroutine.endswith("descend")]
        assert (len(crowd.names), len(crowd.stack)) == (3, 302)

    async def test_of_a_deep_chain_both_ends_are_shown(self, tasks):
        """The five outermost lines and the innermost ones: between them is the recursion."""
        tasks.append(await start(self.descend(200), "deep"))

        lines = str(snapshot()).splitlines()
        start_of_stack = next(number for number, line in enumerate(lines) if line.startswith("  'deep' ")) + 1
        stack = [line for line in lines[start_of_stack:] if line.startswith("    ")]
        assert [line.rpartition(" in ")[2] for line in stack] == [
            *["descend"] * 5,
            "    ... 172 more",
            *["descend"] * 24,
            "forever",
        ]


class TestDump:
    @pytest.mark.asyncio(loop_factories=["default"])
    @pytest.mark.parametrize("blocked", [False, True])
    async def test_a_loop_in_another_thread_looks_for_itself_unless_it_is_blocked(self, written, monkeypatch, blocked):
        """To read the frames that another thread runs may crash CPython. Those of a blocked loop stand still."""
        monkeypatch.setattr(ask, "PATIENCE", 0.01 if blocked else 60)
        look, threads = dump.snapshot, []

        def note(loop):
            threads.append(threading.current_thread())
            return look(loop)

        monkeypatch.setattr(dump, "snapshot", note)
        loop, leave, ready = asyncio.new_event_loop(), threading.Event(), threading.Event()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        if blocked:
            loop.call_soon_threadsafe(lambda: (ready.set(), leave.wait()))
            ready.wait()
        with dump_on_signal(loop=loop):
            signal.raise_signal(signal.SIGUSR1)
        leave.set()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

        assert threads == [threading.main_thread() if blocked else thread]
        assert "\n0 tasks\n" in written()

    @pytest.mark.asyncio(loop_factories=["default"])
    async def test_a_signal_within_a_snapshot_changes_nothing_of_it(self, tasks, monkeypatch):
        """Until 3.12, both look into the same dict of a frame."""
        lock = asyncio.Lock()
        tasks += [await start(enter(lock), name) for name in "ab"]

        def look():
            return [(info.names, info.on) for info in snapshot().tasks if info.state == "parked"]

        alone, found = look(), []

        def trace(frame, event, arg):
            if frame.f_code.co_name == "variable" and event == "line":
                sys.settrace(None)
                found.append(look())
                sys.settrace(trace)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            interrupted = look()
        finally:
            sys.settrace(before)

        assert alone == [(("a",), "Future"), (("b",), "Lock.acquire, held by 'a'")]
        assert [interrupted, *found] == [alone] * (len(found) + 1)
        assert found
