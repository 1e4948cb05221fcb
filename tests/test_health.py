"""`health`: whether the program is alive, and whether it is ready."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import threading

import pytest
from loops import each_loop
from tools import Boom, fail, forever, refused, turns

from async_plus import Health, Supervisor, cancel_and_wait, health, ready, supervised, watch_loop
from async_plus.diagnostics import loop_watch
from async_plus.diagnostics.ask import ask

WELL = Health(live=True, ready=True, problems=())


class TestReady:
    async def test_a_program_without_services_is_ready(self):
        """There is nothing that it could wait for."""
        assert health() == WELL

    async def test_a_service_that_runs_is_ready(self):
        """One that declares nothing is so from its start."""
        host = asyncio.create_task(supervised(name="feed")(forever)())
        await turns()
        assert health() == WELL
        await cancel_and_wait(host)
        assert health() == WELL

    async def test_a_service_that_declares_its_readiness_is_ready_when_it_says_so(self):
        """Until then, it is starting."""
        opened = asyncio.Event()

        @supervised(name="feed", ready=True)
        async def feed():
            await opened.wait()
            ready()
            await forever()

        host = asyncio.create_task(feed())
        await turns()
        assert health() == Health(True, False, ("service 'feed' is starting",))
        opened.set()
        await turns()
        assert health() == WELL
        await cancel_and_wait(host)

    @pytest.mark.virtual_time
    async def test_a_service_that_waits_to_be_restarted_is_not_ready_and_the_program_lives(self):
        """With what it failed with, by name, and when it goes on. A restart of the process would not help."""
        calls = iter([fail, forever])

        @supervised(name="feed", delays=[10])
        async def feed():
            call = next(calls)
            await (call(Boom("swordfish")) if call is fail else call())

        host = asyncio.create_task(feed())
        await asyncio.sleep(4)
        assert health() == Health(True, False, ("service 'feed' is in backoff, after Boom, restart in 6.0 s",))
        await asyncio.sleep(7)
        assert health() == WELL
        await cancel_and_wait(host)

    @pytest.mark.virtual_time
    async def test_services_of_one_name_that_fare_alike_make_one_problem(self):
        """With the restart that comes first."""

        @supervised(name="feed", delays=[10], restart="always")
        async def feed(seconds):
            await asyncio.sleep(seconds)

        hosts = [asyncio.create_task(feed(seconds)) for seconds in (1, 2, 3, 100)]
        await asyncio.sleep(4)
        assert health() == Health(True, False, ("service 'feed' x 3 is in backoff, restart in 7.0 s",))
        await cancel_and_wait(*hosts)

    @pytest.mark.virtual_time
    async def test_problems_are_told_in_the_order_of_names(self):
        """Tasks come in no order, and two answers of the same are to be the same."""
        names = [f"feed {number}" for number in (*range(8, 12), *range(1, 8))]
        hosts = [
            asyncio.create_task(supervised(name=name, delays=[10], restart="always")(asyncio.sleep)(1))
            for name in names
        ]
        await asyncio.sleep(2)
        problems = health().problems
        await cancel_and_wait(*hosts)

        assert [problem.split("'")[1] for problem in problems] == [f"feed {number}" for number in range(1, 12)]

    async def test_the_children_of_supervisors_are_told_with_these(self):
        """Those of a supervisor within a child, too."""
        starting = asyncio.Event()

        async def inner():
            async with Supervisor("inner") as sup:
                await sup.start(forever, name="deep")
                started = asyncio.create_task(sup.start(supervised(ready=True)(forever), name="slow"))
                starting.set()
                await started

        async with Supervisor("shop") as sup:
            await sup.start(inner)
            await starting.wait()
            await turns()
            assert health() == Health(True, False, ("child 'slow' of supervisor 'inner' is starting",))

    async def test_a_child_that_is_being_stopped_is_not_ready(self):
        """It may take its time."""
        released = asyncio.Event()

        async def slow():
            try:
                await forever()
            finally:
                await released.wait()

        async with Supervisor("shop") as sup:
            child = await sup.start(slow, name="slow")
            await turns()
            stopping = asyncio.create_task(child.stop())
            await turns()
            assert health() == Health(True, False, ("child 'slow' of supervisor 'shop' is stopping",))
            released.set()
            await stopping
            assert health() == WELL

    async def test_a_supervisor_that_has_given_up_is_not_ready(self):
        """As long as its block goes on as if nothing had happened."""
        with pytest.raises(Boom):
            async with Supervisor("shop") as sup:
                opened = asyncio.Event()
                await sup.start(forever, name="feed")

                async def till():
                    await opened.wait()
                    raise Boom

                await sup.start(till, name="till")
                opened.set()
                await turns()
                assert health() == Health(True, False, ("supervisor 'shop' gave up on 'till'",))
        assert health() == WELL


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(loop_watch, "time", clock)
    return clock


class TestLive:
    async def test_a_watched_loop_is_dead_while_its_heartbeat_is_overdue(self, clock):
        """By the threshold of the watch. What is over does not count: nobody needs a new process for it."""
        with watch_loop(0.5) as watch:
            await turns()
            clock.now = 0.7
            assert health() == WELL
            clock.now = 0.76
            assert health() == Health(False, True, ("the event loop has been blocked for 0.51 s",))
            watch._timer.cancel()
            watch._beat()
            assert watch.lag > 0.5
            assert health() == WELL
        assert health() == WELL

    async def test_it_may_be_asked_in_another_thread(self):
        """The loop answers."""

        @supervised(name="feed", ready=True)
        async def feed():
            await forever()

        assert await asyncio.to_thread(health, asyncio.get_running_loop()) == WELL
        host = asyncio.create_task(feed())
        await turns()
        expected = Health(True, False, ("service 'feed' is starting",))
        assert await asyncio.to_thread(health, asyncio.get_running_loop()) == expected
        await cancel_and_wait(host)

    @each_loop
    @pytest.mark.parametrize(
        ("threshold", "answer"),
        [
            (None, Health(False, False, ("the event loop has not answered within 0.01 s",))),
            # The blocks that the user has called harmless.
            (3600, Health(True, False, ("the event loop has not answered within 0.01 s",))),
            (0.001, "the event loop has been blocked for"),
        ],
    )
    def test_whoever_blocks_the_loop_does_not_block_the_answer(self, monkeypatch, loop_factory, threshold, answer):
        """In another thread. What a blocked loop does with its services nobody can see, so it is not ready."""
        monkeypatch.setattr("async_plus.diagnostics.ask.PATIENCE", 0.01)
        monkeypatch.setattr("async_plus.diagnostics.health.PATIENCE", 0.01)
        entered, leave = threading.Event(), threading.Event()
        loops = []

        async def main():
            loops.append(asyncio.get_running_loop())
            watch = None if threshold is None else watch_loop(threshold)
            await turns()
            entered.set()
            leave.wait()
            if watch is not None:
                watch.stop()

        def run():
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(main())

        thread = threading.Thread(target=run)
        thread.start()
        entered.wait()
        [loop] = loops
        if isinstance(answer, Health):
            assert health(loop) == answer
        else:
            while not (found := health(loop)).problems[0].startswith(answer):
                assert found.live  # it has not lasted that long yet
            assert (found.live, found.ready) == (False, False)
        leave.set()
        thread.join()

        assert health(loop) == Health(False, False, ("the event loop is not running",))


class TestAsk:
    async def test_what_the_question_raises_is_raised(self):
        """In the thread that asks."""

        def question():
            raise Boom

        with pytest.raises(Boom):
            await asyncio.to_thread(ask, asyncio.get_running_loop(), question)

    async def test_a_question_that_nobody_waits_for_any_more_is_not_asked(self, monkeypatch):
        """The loop has enough to do when it goes on."""
        monkeypatch.setattr("async_plus.diagnostics.ask.PATIENCE", 0.01)
        asked, answers = [], []
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=lambda: answers.append(ask(loop, lambda: asked.append(True))))
        thread.start()
        thread.join()
        await turns()
        assert (asked, answers) == ([], [None])

    async def test_an_answer_that_is_just_being_given_is_waited_for(self, monkeypatch):
        """It cannot be taken back."""
        monkeypatch.setattr("async_plus.diagnostics.ask.PATIENCE", 0)
        begun, end = threading.Event(), threading.Event()

        def question():
            begun.set()
            end.wait()
            return 5

        def wait(futures, patience):
            begun.wait()
            found = waited(futures, patience)
            end.set()
            return found

        waited = concurrent.futures.wait
        monkeypatch.setattr(concurrent.futures, "wait", wait)
        assert await asyncio.to_thread(ask, asyncio.get_running_loop(), question) == 5

    def test_a_loop_that_nobody_runs_is_not_waited_for(self, monkeypatch):
        """Nothing can change there meanwhile."""
        monkeypatch.setattr("async_plus.diagnostics.ask.PATIENCE", 0)
        loop = asyncio.new_event_loop()
        assert ask(loop, lambda: 5) == 5
        loop.close()

    def test_a_loop_that_has_just_been_closed_gives_no_answer(self):
        """Between the look and the question."""
        loop = asyncio.new_event_loop()
        loop.close()
        loop.is_running = lambda: True
        assert ask(loop, int) is None


def test_an_answer_cannot_be_changed():
    """It may be handed on."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        WELL.live = False


def test_it_needs_a_loop():
    """The one that runs, or one that is given."""
    with refused(RuntimeError, "health() needs a loop, as none is running in this thread: pass the one to judge"):
        health()
    with refused(TypeError, "loop must be an event loop, got int 5"):
        health(5)
