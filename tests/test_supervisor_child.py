"""What one may ask and tell a child of a `Supervisor`, and what it says of itself."""

from __future__ import annotations

import asyncio
import functools

import pytest
from services import told
from tools import Bang, Boom, crash, elapsed, forever, turns

from async_plus import Child, Supervisor, cancel_and_wait, supervised

virtual = pytest.mark.virtual_time


@virtual
class TestChild:
    async def test_restart_starts_it_again_at_once_and_is_not_counted(self, diary):
        """It waits for the new attempt to be ready; siblings go on, whatever the strategy."""
        async with Supervisor("shop", strategy="one_for_all") as sup:
            child = await sup.start(diary.service("db", ready_after=1, stop_takes=2, max_restarts=0))
            await sup.start(diary.service("feed"))
            await asyncio.sleep(9)
            await child.restart()
            assert elapsed() == 13
            assert (child.restarts, child.state) == (0, "running")
            assert diary.since(9) == [("db", "is told"), ("db", "stops"), ("db", "starts"), ("db", "is ready")]

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    async def test_restart_skips_the_delay(self, strategy, diary):
        """Of those that it would have to wait for, too."""
        async with Supervisor("shop", strategy=strategy) as sup:
            child = await sup.start(diary.service("db", fails=(1,), delays=[100]))
            other = await sup.start(diary.service("feed"))
            await asyncio.sleep(3)
            assert (child.state, other.state) == ("backoff", "backoff")
            await other.restart()
            assert elapsed() == 3
            await turns()
            assert diary.since(3) == [("db", "starts"), ("feed", "starts")]
            assert (child.state, other.state) == ("running", "running")

    async def test_restart_leaves_the_delays_of_those_after_it_alone(self, diary):
        """It need not wait for them."""
        async with Supervisor("shop", strategy="rest_for_one") as sup:
            child = await sup.start(diary.service("db"))
            await sup.start(diary.service("feed", fails=(1,), delays=[100]))
            await asyncio.sleep(3)
            await child.restart()
            await asyncio.sleep(50)
            assert diary.since(3) == [("db", "is told"), ("db", "stops"), ("db", "starts")]

    async def test_restart_brings_back_one_that_is_done(self, diary):
        """At its old place."""
        async with Supervisor("shop") as sup:
            child = await sup.start(diary.service("db"))
            other = await sup.start(diary.service("feed"))
            await turns()
            await child.stop()
            assert sup.children == (other,)
            await child.restart()
            assert sup.children == (child, other)
            assert child.state == "running"

    async def test_stop_is_for_good_and_for_it_alone(self, diary):
        """It returns when it has ended; twice is fine."""
        async with Supervisor("shop", strategy="one_for_all") as sup:
            child = await sup.start(diary.service("db", stop_takes=2))
            await sup.start(diary.service("feed"))
            await turns()
            stopping = asyncio.create_task(child.stop())
            await turns()
            assert child.state == "stopping"
            await child.stop()
            await stopping
            await child.stop()
            assert (elapsed(), child.state) == (2, "done")
            await asyncio.sleep(100)
            assert ("feed", "is told") not in diary.lines
            assert diary.since(1) == [("db", "stops")]

    async def test_stop_ends_a_delay(self, diary):
        """It is not started again."""
        async with Supervisor("shop") as sup:
            child = await sup.start(diary.service("db", fails=(1,)))
            await asyncio.sleep(2)
            assert child.state == "backoff"
            await child.stop()
            assert child.state == "done"
            await sup.wait()
            await asyncio.sleep(100)
        assert diary.since(1) == [("db", "fails")]

    async def test_a_restart_after_a_stop_wins_and_the_other_way_round(self, diary):
        """The last word counts, while it is being stopped."""
        async with Supervisor("shop") as sup:
            child = await sup.start(diary.service("db", stop_takes=2))
            await turns()
            stop = asyncio.create_task(child.stop())
            await asyncio.sleep(1)
            await child.restart()
            assert (elapsed(), child.state, stop.done()) == (2, "running", False)
            restart = asyncio.create_task(child.restart())
            await asyncio.sleep(1)
            await child.stop()
            await asyncio.gather(stop, restart)
            assert (elapsed(), child.state) == (4, "done")

    async def test_wait_never_raises(self, diary):
        """It returns when the child is done or failed."""
        with pytest.raises(Boom):
            async with Supervisor("shop") as sup:
                child = await sup.start(functools.partial(crash, 3))
                await child.wait()
                assert (elapsed(), child.state, type(child.last_error)) == (3, "failed", Boom)
                await child.wait()

    async def test_a_child_may_restart_and_stop_itself(self):
        """It is cancelled where it asks."""
        states, children = [], []

        async def feed():
            [child] = children
            states.append(child.state)
            if len(states) == 1:
                await child.restart()
            # An eager attempt is not known as a task in its first step.
            await child.stop()

        async with Supervisor("shop") as sup:
            later = asyncio.Event()

            async def host():
                await later.wait()
                await feed()

            children.append(await sup.start(host))
            later.set()
            await sup.wait()
        assert len(states) == 2
        assert children[0].state == "done"

    async def test_its_text_tells_name_state_and_restarts(self, diary):
        """And that of the supervisor its children."""
        sup = Supervisor("shop", strategy="one_for_all")
        assert repr(sup) == "<Supervisor 'shop' one_for_all not entered, children=0>"
        async with sup:
            child = await sup.start(diary.service("db"))
            assert repr(child) == "<Child 'db' running, restarts=0>"
            assert repr(sup) == "<Supervisor 'shop' one_for_all open, children=1>"
            assert isinstance(child, Child)
            assert sup.name == "shop"
        assert repr(sup) == "<Supervisor 'shop' one_for_all closed, children=0>"

    async def test_errors_are_kept_without_tracebacks(self):
        """Those that led to it and those in a group included: frames would be kept alive."""
        cause, leaf = KeyError(), ValueError()
        with pytest.raises(KeyError):
            raise cause
        with pytest.raises(ValueError):
            raise leaf

        @supervised(delays=[100], name="feed")
        async def feed():
            raise ExceptionGroup("two", [leaf, Boom()]) from cause

        async with Supervisor("shop") as sup:
            child = await sup.start(feed)
            await asyncio.sleep(1)
            error = child.last_error
            assert error.__cause__ is cause
            assert [exc.__traceback__ for exc in (error, cause, leaf)] == [None] * 3

    async def test_errors_may_lead_to_each_other(self):
        """In a circle, as one that is raised again while its own effect is handled does."""

        @supervised(delays=[100], name="feed")
        async def feed():
            error = Boom()
            error.__cause__ = Bang()
            error.__cause__.__cause__ = error
            raise error

        async with Supervisor("shop") as sup:
            child = await sup.start(feed)
            await asyncio.sleep(1)
            assert child.last_error.__cause__.__cause__ is child.last_error

    async def test_a_failure_is_told_once_whoever_else_waits_for_the_task(self, caplog):
        """A gather or cancel_and_wait that takes an attempt leaves that to the supervisor."""
        tasks = []

        @supervised(delays=[100], name="feed")
        async def feed():
            tasks.append(asyncio.current_task())
            try:
                await forever()
            finally:
                raise Boom

        async with Supervisor("shop") as sup:
            await sup.start(feed)
            await turns()
            await cancel_and_wait(*tasks)
        assert [text for _, text in told(caplog)] == ["feed failed after 0.0 s with Boom, restart 1 in 100.0 s"]

    async def test_states_follow_its_life(self, diary):
        """starting, running, backoff, starting, running, stopping, done."""
        async with Supervisor("shop") as sup:
            starting = asyncio.create_task(sup.start(diary.service("db", fails=(1,), ready_after=1, stop_takes=1)))
            states = []
            await turns()
            [child] = sup.children
            for _ in range(18):
                if not states or states[-1] != child.state:
                    states.append(str(child.state))
                await asyncio.sleep(0.5)
            await starting
            stop = asyncio.create_task(child.stop())
            await turns()
            states.append(child.state)
            await stop
            states.append(child.state)
        assert states == ["starting", "running", "backoff", "starting", "running", "stopping", "done"]
