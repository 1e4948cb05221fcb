"""`Supervisor` when things come at an awkward moment: from a first step, a cleanup, a subscriber, or all at once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging

import pytest
from tools import Bang, Boom, closed, crash, elapsed, fail, forever, no_garbage_of_reports, refused, turns

import async_plus
from async_plus import AttemptFailed, AttemptStarted, GaveUp, Stopped, Supervisor, ready, supervised

pytestmark = pytest.mark.virtual_time

each_strategy = pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])


class Presence:
    """How many are within the block, were at most, and have been."""

    def __init__(self):
        self.now = self.most = self.ever = 0

    def __enter__(self):
        self.now += 1
        self.ever += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *_):
        self.now -= 1


class TestFirstStep:
    """That of an eager attempt is taken while its task is being made; on other loops it comes later."""

    @each_strategy
    @pytest.mark.parametrize("declares_ready", [False, True])
    async def test_an_attempt_that_restarts_itself_there_has_no_twin(self, strategy, declares_ready):
        """It ends first; the next one starts after it."""
        presence, sup = Presence(), Supervisor("shop", strategy=strategy)

        @supervised(ready=declares_ready)
        async def feed():
            with presence:
                if presence.ever == 1:
                    await sup.children[0].restart()
                ready()
                await forever()

        async with sup:
            child = await sup.start(feed)
            await turns()
            assert (presence.now, presence.most, presence.ever) == (1, 1, 2)
            assert child.state == "running"
        assert presence.now == 0

    @each_strategy
    async def test_a_start_that_is_refused_there_is_refused_there(self, strategy):
        """Whoever started the outer one has nothing to do with it, and gets its child."""
        sup = Supervisor("shop", strategy=strategy)

        async def boot():
            with refused(TypeError, f"{needs.__qualname__}() missing 1 required positional argument: 'url'"):
                await sup.start(needs)
            await forever()

        async with sup:
            child = await sup.start(boot)
            await turns()
            assert sup.children == (child,)


async def needs(url):
    """Cannot be called without an argument."""


class TestFirstStart:
    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    async def test_one_that_comes_later_is_refused_to_its_caller(self, strategy):
        """While a delay of the group is waited for, nothing is started; when it is over, the call may fail."""

        @supervised(delays=[5])
        async def feed():
            await asyncio.sleep(1)
            raise Boom

        async with Supervisor("shop", strategy=strategy) as sup:
            child = await sup.start(feed)
            await asyncio.sleep(2)
            with refused(TypeError, "needs() missing 1 required positional argument: 'url'"):
                await sup.start(needs)
            assert elapsed() == 6
            assert sup.children == (child,)

    @each_strategy
    async def test_one_that_fails_before_it_is_ready_is_not_held_up_by_who_waits_for_it(self, strategy):
        """A child that starts another one before it is ready itself; or through a third one. None waits for ever."""
        sup = Supervisor("shop", strategy=strategy)

        @supervised(ready=True, delays=[5])
        async def connection():
            if elapsed() < 5:
                raise Boom
            ready()
            await forever()

        @supervised(ready=True)
        async def starter(*others):
            await sup.start(*others)
            ready()
            await forever()

        async with sup:
            await sup.start(starter, starter, connection)
            assert elapsed() == 5
            assert [child.state for child in sup.children] == ["running"] * 3

    @pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one"])
    async def test_one_that_was_done_and_fails_then_is_not_held_up_either(self, strategy):
        """Whoever restarts it may wait for it before being ready, as with one that is new."""
        sup = Supervisor("shop", strategy=strategy)

        @supervised(ready=True, delays=[5])
        async def connection():
            # Its first run is all right, and its second one fails.
            if elapsed() == 1:
                raise Boom
            ready()
            if elapsed() > 1:
                await forever()

        @supervised(ready=True)
        async def starter():
            child = await sup.start(connection)
            await child.wait()
            await asyncio.sleep(1)
            await child.restart()
            ready()
            await forever()

        async with sup:
            await sup.start(starter)
            assert elapsed() == 6
            assert [child.state for child in sup.children] == ["running"] * 2

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    async def test_a_new_one_waits_for_none_that_waits_itself(self, strategy):
        """After a failure those that start again wait for each other to be ready. Who is new need not."""

        @supervised(ready=True, delays=[1], name="slow")
        async def slow():
            if elapsed() == 0:
                ready()
                await asyncio.sleep(1)
                raise Boom
            await asyncio.sleep(10)
            ready()
            await forever()

        async with Supervisor("shop", strategy=strategy) as sup:
            await sup.start(slow)
            await sup.start(forever)
            await asyncio.sleep(3)
            assert [child.state for child in sup.children] == ["starting", "backoff"]

            new = await sup.start(forever, name="new")

            assert (elapsed(), new.state) == (3, "running")
            await asyncio.sleep(10)
            assert [child.state for child in sup.children] == ["running"] * 3

    async def test_one_that_is_refused_later_leaves_no_cycle(self):
        """The error has the frames that it came through, and nothing of ours leads back to it."""
        with no_garbage_of_reports():
            async with Supervisor("shop", strategy="one_for_all") as sup:
                await sup.start(supervised(delays=[5])(functools.partial(fail, Boom())))
                await asyncio.sleep(2)
                with contextlib.suppress(TypeError):
                    await sup.start(needs)

    @each_strategy
    async def test_one_that_was_done_starts_as_at_first(self, strategy):
        """It waits for no sibling to be ready, which may be waiting for it."""

        @supervised(ready=True)
        async def slow():
            await asyncio.sleep(10)
            ready()
            await forever()

        async with Supervisor("shop", strategy=strategy) as sup:
            first = await sup.start(slow)
            second = await sup.start(turns)
            await second.wait()
            restarting = asyncio.create_task(first.restart())
            await turns()

            await second.restart()

            assert (elapsed(), first.state) == (10, "starting")
            await restarting


class TestDelays:
    @each_strategy
    async def test_a_delay_ends_with_the_block(self, strategy):
        """No timer is left, which could keep everything alive for hours."""
        loop = asyncio.get_running_loop()
        before = timers(loop)
        async with Supervisor("shop", strategy=strategy) as sup:
            await sup.start(supervised(delays=[36_000])(functools.partial(fail, Boom())))
            await sup.start(supervised(delays=[36_000])(functools.partial(fail, Boom())))
            await turns()
            assert timers(loop) != before
        assert timers(loop) == before

    async def test_a_closed_host_leaves_none_in_its_delay(self):
        """Whoever waits for such a child would wait for ever."""
        children = []

        @supervised(delays=[100])
        async def feed():
            raise Boom

        async def shop():
            async with Supervisor("shop") as sup:
                children.append(await sup.start(feed))
                await sup.wait()

        host = shop()
        host.send(None)
        await turns()
        waiting = asyncio.create_task(children[0].wait())
        await turns()
        assert children[0].state == "backoff"

        host.close()
        await turns()

        assert (children[0].state, waiting.done()) == ("done", True)

    async def test_a_delay_ends_with_a_host_that_is_closed(self):
        """No timer is left by one that nobody waits for any more."""
        loop = asyncio.get_running_loop()

        async def shop():
            async with Supervisor("shop") as sup:
                await sup.start(supervised(delays=[36_000])(functools.partial(fail, Boom())))
                await sup.wait()

        before = timers(loop)
        host = shop()
        host.send(None)
        await turns()
        host.close()
        await turns()
        assert timers(loop) == before


def timers(loop):
    """The timers of *loop* that are not cancelled."""
    # Those of the virtual uvloop are kept in tuples.
    entries = [entry[-1] for entry in loop._timers] if hasattr(loop, "_timers") else loop._scheduled
    return [timer for timer in entries if not timer.cancelled()]


class TestReady:
    async def test_an_attempt_that_is_ready_too_late_is_not(self):
        """Its call of ready() comes in its cleanup: restart() waits for the next attempt."""

        @supervised(ready=True)
        async def late():
            if not first:
                first.append(True)
                try:
                    await forever()
                finally:
                    ready()
                    await asyncio.sleep(3)
            ready()
            await forever()

        first = []
        async with Supervisor("shop") as sup:
            start = asyncio.create_task(sup.start(late))
            await turns()
            [child] = sup.children
            await child.restart()
            assert (elapsed(), child.state) == (3, "running")
            assert await start is child

    async def test_a_hung_one_that_is_ready_too_late_is_not(self):
        """It is on its way down already: start() waits for the attempt that replaces it."""

        @supervised(ready=True, heartbeat=2, delays=[5])
        async def late():
            if not first:
                first.append(True)
                try:
                    await forever()
                finally:
                    ready()
                    await asyncio.sleep(1)
            ready()
            await asyncio.sleep(1)

        first = []
        async with Supervisor("shop") as sup:
            child = await sup.start(late)
            assert (elapsed(), child.state) == (8, "running")


class TestSubscribers:
    """What they do in eager tasks happens in the midst of things."""

    @each_strategy
    @pytest.mark.parametrize("order", ["restart", "stop"])
    @pytest.mark.parametrize("kind", [AttemptStarted, AttemptFailed, Stopped, GaveUp])
    async def test_a_subscriber_may_give_orders(self, kind, order, strategy):
        """Whatever it is told of: there is one attempt at a time, and nothing that is out of control."""
        presence, orders = Presence(), []
        sup = Supervisor("shop", strategy=strategy)

        @supervised(delays=[5], max_restarts=1)
        async def feed():
            with presence:
                await asyncio.sleep(1 if presence.ever == 1 or kind is GaveUp else 100)
                raise Boom

        def react(event):
            if isinstance(event, kind) and not orders:
                orders.append(asyncio.create_task(getattr(sup.children[0], order)()))

        unsubscribe = async_plus.subscribe(react)
        try:
            with contextlib.suppress(Boom):
                async with sup:
                    child = await sup.start(feed)
                    await asyncio.sleep(0.5)
                    if kind is Stopped:
                        await child.restart()
                    await asyncio.sleep(50)
                    if sup.children:
                        assert (child.state, presence.now) == ("running", 1)
        finally:
            unsubscribe()
        assert presence.most <= 1
        assert presence.now == 0
        await asyncio.gather(*orders, return_exceptions=True)


class TestHeartbeat:
    async def test_none_is_asked_for_from_one_that_is_being_stopped(self, caplog):
        """Its cleanup may take its time; it is named after warn_after seconds like all others, not as hung."""
        caplog.set_level(logging.WARNING)

        @supervised(heartbeat=2, name="feed")
        async def feed():
            try:
                await forever()
            finally:
                await asyncio.sleep(6)

        async with Supervisor("shop") as sup:
            child = await sup.start(feed)
            await asyncio.sleep(1)
            await child.restart()
            assert (elapsed(), child.state) == (7, "running")
            assert [record.levelname for record in caplog.records] == ["WARNING"]
            assert caplog.messages[0].startswith(
                "supervisor 'shop' still waits for 1 cancelled task after 5.0 s: 'feed#1' parked "
            )
            await asyncio.sleep(2.5)
            assert child.state == "stopping"
            assert caplog.messages[1].startswith("feed hangs: no heartbeat for 2.0 s, attempt 2 ")

    async def test_one_that_hangs_is_not_cancelled_again_when_it_is_stopped(self):
        """Who cancels it is its supervisor, both times."""
        told = []

        @supervised(heartbeat=1, name="feed")
        async def feed():
            until = asyncio.get_running_loop().time() + 5
            while (left := until - asyncio.get_running_loop().time()) > 0:
                try:
                    await asyncio.sleep(left)
                except asyncio.CancelledError:
                    told.append(elapsed())

        async with Supervisor("shop") as sup:
            child = await sup.start(feed)
            await asyncio.sleep(2)
            await child.stop()

        assert told == [1]


class TestAllTasksAreCancelled:
    @pytest.mark.parametrize(("delay", "after"), [(0, 1), (0.5, 1), (3, 3)])
    async def test_what_is_restarted_waits_for_a_second_at_least(self, delay, after):
        """Until it is clear that the host is not about to end."""
        started = []

        @supervised(delays=[delay])
        async def feed():
            started.append(elapsed())
            await forever()

        async def shop():
            async with Supervisor("shop") as sup:
                await sup.start(feed)
                try:
                    await forever()
                except asyncio.CancelledError:
                    await asyncio.sleep(10)

        host = asyncio.create_task(shop())
        await turns()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await host
        assert started == [0, after]

    @pytest.mark.parametrize("goes_on", ["by a start", "by uncancel"])
    async def test_a_host_that_goes_on_does_not_pass_for_a_cancelled_one(self, goes_on, caplog):
        """It was cancelled long before its child was, which has failed then."""

        @supervised(delays=[5], name="feed")
        async def feed():
            await forever()

        async def shop():
            if goes_on == "by uncancel":
                await swallow()
            async with Supervisor("shop") as sup:
                if goes_on == "by a start":
                    await swallow()
                tasks = asyncio.all_tasks()
                child = await sup.start(feed)
                if goes_on == "by uncancel":
                    asyncio.current_task().uncancel()
                await turns()
                [attempt] = asyncio.all_tasks() - tasks
                attempt.cancel()
                await turns()
                assert child.state == "backoff"

        async def swallow():
            asyncio.current_task().cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)

        await asyncio.create_task(shop())

        [message] = caplog.messages
        assert message == "feed failed after 0.0 s with UnexpectedCancellation, restart 1 in 5.0 s"

    async def test_a_start_by_another_task_does_not_tell_that_the_host_goes_on(self, caplog):
        """It is in its cleanup, and says nothing."""

        async def shop(sup):
            async with sup:
                await sup.start(supervised(name="feed")(forever))
                try:
                    await forever()
                except asyncio.CancelledError:
                    await asyncio.sleep(10)

        sup = Supervisor("shop")
        before = asyncio.all_tasks()
        host = asyncio.create_task(shop(sup))
        await turns()
        [attempt] = asyncio.all_tasks() - before - {host}
        host.cancel()
        await turns()
        await sup.start(forever)

        attempt.cancel()
        await host

        assert caplog.messages == []

    async def test_what_is_never_restarted_is_not_restarted_then(self):
        """The host goes on for a while, and its services come back; a function that runs once has run."""
        presence = {"once": Presence(), "service": Presence()}

        async def run(name):
            with presence[name]:
                await forever()

        async def shop():
            async with Supervisor("shop") as sup:
                child = await sup.start(run, "once")
                await sup.start(supervised(run), "service")
                try:
                    await sup.wait()
                finally:
                    await asyncio.sleep(10)
                    assert child.state == "done"

        host = asyncio.create_task(shop())
        await turns()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait([host])
        assert host.cancelled()
        assert [presence[name].ever for name in ("once", "service")] == [1, 2]


class TestGivingUp:
    @pytest.mark.parametrize("how", ["wait", "start", "end", "body", "cancellation"])
    async def test_the_error_is_in_no_cycle(self, how):
        """Its frames lead to the supervisor, which lets go of it at the end of the block."""

        async def shop():
            async with Supervisor("shop") as sup:
                await sup.start(crash, 0)
                if how == "wait":
                    await sup.wait()
                if how == "start":
                    await sup.start(supervised(ready=True)(forever))
                await turns()
                if how == "body":
                    raise Bang
                if how == "cancellation":
                    raise asyncio.CancelledError

        with no_garbage_of_reports():
            with contextlib.suppress(Boom, Bang, asyncio.CancelledError):
                await shop()
            await turns()

    async def test_whoever_waits_elsewhere_gets_the_error_too(self):
        """Although the block may end in the same moment, and lets go of it."""
        async with Supervisor("shop") as sup:
            await sup.start(functools.partial(crash, 3))
            others = [
                asyncio.create_task(sup.start(supervised(ready=True)(forever))),
                asyncio.create_task(sup.wait()),
            ]
            with pytest.raises(Boom):
                await sup.wait()
        ends = await asyncio.gather(*others, return_exceptions=True)
        assert [type(end) for end in ends] == [Boom] * 2
        with pytest.raises(Boom):
            await sup.wait()


async def test_those_who_wait_are_woken_in_the_order_in_which_they_came():
    """The same in every run, so that whoever goes on first does so always."""
    woken = []

    async def note(number, awaitable):
        await awaitable
        woken.append(number)

    async with Supervisor("shop") as sup:
        child = await sup.start(asyncio.sleep, 3)
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(note(number, child.wait()))
            for number in range(20, 40):
                group.create_task(note(number, sup.wait()))
    assert woken == list(range(40))


async def test_a_host_that_outlives_its_loop_leaves_quietly():
    """The garbage collector closes it some day, when nothing of its loop can run any more."""

    async def shop():
        async with Supervisor("shop"):
            await forever()

    async def step(coroutine):
        coroutine.send(None)

    host = shop()
    await asyncio.to_thread(asyncio.run, step(host))
    host.close()
    assert closed(host)
