"""State that belongs to one event loop goes when the loop goes."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest
from loops import each_loop
from tools import Boom, forever, futures, turns

from async_plus import launch_watched
from async_plus.engine.per_loop import per_loop
from async_plus.engine.watch import Watcher


class State:
    """What a part of the engine keeps for a loop: it leads back to it, as tasks and timers do."""

    def __init__(self, loop):
        self.loop = loop
        self.tasks = set()


class OtherState(State):
    pass


class TestState:
    async def test_it_is_made_at_the_first_call_and_then_found(self):
        """By the factory, with the loop it is for."""
        loop = asyncio.get_running_loop()

        state = per_loop(loop, State)

        assert type(state) is State
        assert state.loop is loop
        assert per_loop(loop, State) is state

    async def test_each_factory_has_its_own(self):
        """Parts of the engine do not meet there."""
        loop = asyncio.get_running_loop()

        states = [per_loop(loop, State), per_loop(loop, OtherState)]

        assert list(map(type, states)) == [State, OtherState]
        assert [per_loop(loop, State), per_loop(loop, OtherState)] == states

    async def test_a_factory_that_fails_is_asked_again(self):
        """Its error comes out, and nothing is kept of it."""
        loop, made = asyncio.get_running_loop(), []

        def factory(loop):
            made.append(loop)
            if len(made) == 1:
                raise Boom
            return len(made)

        with pytest.raises(Boom):
            per_loop(loop, factory)

        assert per_loop(loop, factory) == per_loop(loop, factory) == 2

    @each_loop
    def test_each_loop_has_its_own(self, loop_factory):
        """Also of two loops that live at the same time, one after the other in one thread."""
        loops = [loop_factory(), loop_factory()]

        states = [per_loop(loop, State) for loop in loops]

        assert [state.loop for state in states] == loops
        for loop in loops:
            loop.close()

    @each_loop
    def test_each_thread_has_its_own(self, loop_factory):
        """Tasks that are launched at the same time in two threads are kept apart."""
        together, kept = threading.Barrier(2), []

        async def main():
            together.wait()
            launch_watched(forever())
            together.wait()
            kept.append(per_loop(asyncio.get_running_loop(), Watcher)._live.copy())

        def run():
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(main())

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        first, second = kept
        assert len(first) == len(second) == 1
        assert first.keys().isdisjoint(second)


class TestDeadLoop:
    @each_loop
    def test_a_dead_loop_is_not_kept(self, loop_factory):
        """Its state goes with it, although the state leads back to it (gh-91887)."""
        loop = loop_factory()
        state = per_loop(loop, State)
        dead = weakref.ref(loop), weakref.ref(state)

        loop.close()
        del loop, state
        gc.collect()

        assert [ref() for ref in dead] == [None, None]

    def test_a_weak_table_would_keep_it(self):
        """The obvious way: the value holds the key, and so neither ever goes (gh-91887)."""
        table = weakref.WeakKeyDictionary()
        loop = asyncio.new_event_loop()
        table[loop] = State(loop)
        dead = weakref.ref(loop)

        loop.close()
        del loop
        gc.collect()

        assert dead() is not None
        table.clear()
        gc.collect()
        assert dead() is None

    @each_loop
    def test_a_dead_loop_with_watched_tasks_is_not_kept(self, loop_factory, no_leaks):
        """A task that was still running goes with its loop, and asyncio says so (gh-91887)."""
        dead = []

        async def main():
            task = launch_watched(forever())
            dead.append(weakref.ref(task))
            await turns()

        loop = loop_factory()
        dead.append(weakref.ref(loop))
        # No Runner, because that would cancel the task.
        loop.run_until_complete(main())
        loop.close()
        del loop
        gc.collect()

        assert [ref() for ref in dead] == [None, None]
        [record] = no_leaks.errors
        assert record.getMessage().startswith("Task was destroyed but it is pending!")
        no_leaks.errors.clear()

    @each_loop
    def test_a_loop_that_runs_again_finds_its_tasks(self, loop_factory):
        """Between two runs nothing is lost, and a task goes on in the second one."""

        async def launch():
            [go] = futures(1)
            return go, launch_watched(asyncio.wait([go]))

        async def finish(go, task):
            go.set_result(None)
            await task

        loop = loop_factory()
        waiting = loop.run_until_complete(launch())
        gc.collect()
        loop.run_until_complete(finish(*waiting))
        loop.close()
