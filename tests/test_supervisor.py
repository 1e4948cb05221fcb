"""`Supervisor`: children that start in order, come back by a strategy, and stop in reverse."""

from __future__ import annotations

import asyncio
import functools
import logging

import pytest
from services import told
from tools import Bang, Boom, elapsed, forever, start, turns

from async_plus import (
    AttemptStarted,
    LateFailure,
    SiblingsRestarted,
    Supervisor,
    heartbeat,
    impatient,
    ready,
    supervised,
)
from async_plus.testing import record_events

virtual = pytest.mark.virtual_time


@virtual
class TestOrder:
    async def test_children_start_in_order_each_when_the_one_before_is_ready(self, diary):
        """`start` returns when its child is ready, or at once if that declares nothing."""
        async with Supervisor("shop") as sup:
            first = await sup.start(diary.service("db", ready_after=2))
            assert elapsed() == 2
            second = await sup.start(diary.service("feed"))
            assert elapsed() == 2
            await turns()

            assert sup.children == (first, second)
            assert [child.state for child in sup.children] == ["running", "running"]
            assert [child.started_at for child in sup.children] == [first.started_at, first.started_at + 2]
        assert diary.since(0)[:3] == [("db", "starts"), ("db", "is ready"), ("feed", "starts")]

    async def test_they_stop_in_reverse_one_at_a_time(self, diary):
        """Each is cancelled when the one after it has come to its end."""
        async with Supervisor("shop") as sup:
            for name in ("db", "cache", "feed"):
                await sup.start(diary.service(name, stop_takes=3))
            await asyncio.sleep(1)

        assert [line for line in diary.lines if line[2] != "starts"] == [
            (1, "feed", "is told"),
            (4, "feed", "stops"),
            (4, "cache", "is told"),
            (7, "cache", "stops"),
            (7, "db", "is told"),
            (10, "db", "stops"),
        ]
        assert sup.children == ()

    async def test_one_that_would_not_stop_is_named(self, caplog, diary):
        """After warn_after seconds and at doubling gaps; it is waited for."""
        async with Supervisor("shop", warn_after=2) as sup:
            await sup.start(diary.service("db", stop_takes=7))
            await asyncio.sleep(1)

        assert [text.partition(" parked")[0] for _, text in told(caplog)] == [
            "supervisor 'shop' still waits for 1 cancelled task after 2.0 s: 'db#1'",
            "supervisor 'shop' still waits for 1 cancelled task after 6.0 s: 'db#1'",
        ]

    async def test_wait_returns_when_all_are_done(self):
        """At once if there are none."""
        async with Supervisor("shop") as sup:
            await sup.wait()
            await sup.start(functools.partial(asyncio.sleep, 3))
            child = await sup.start(asyncio.sleep, 5)
            await sup.wait()
            assert elapsed() == 5
            assert child.state == "done"

    async def test_the_tasks_are_named_and_have_contexts_of_their_own(self):
        """Each attempt runs in a copy of the context of its start."""
        names = []

        @supervised(delays=[0], name="feed")
        async def feed():
            names.append(asyncio.current_task().get_name())
            await asyncio.sleep(1)
            if len(names) < 3:
                raise Boom

        async with Supervisor("shop") as sup:
            await sup.start(feed)
            await sup.wait()
            await sup.start(feed, name="other")
            await sup.wait()
        # (An eager task is named after its first step.)
        assert [name for name in names if not name.startswith("Task-")] in (
            ["feed#1", "feed#2", "feed#3", "other#1"],
            [],
        )


@virtual
class TestStrategies:
    async def test_one_for_one_restarts_the_failed_one_only(self, diary):
        """With its own delay."""
        async with Supervisor("shop") as sup:
            for name, fails in (("db", ()), ("cache", (4,)), ("feed", ())):
                await sup.start(diary.service(name, fails=fails))
            await asyncio.sleep(100)
            assert [child.restarts for child in sup.children] == [0, 1, 0]
            lines = diary.since(1)

        assert lines == [("cache", "fails"), ("cache", "starts")]
        assert (9, "cache", "starts") in diary.lines

    async def test_one_for_all_stops_all_in_reverse_and_starts_all_in_order(self, diary):
        """After the delay of the failed one, each when the one before is ready."""
        async with Supervisor("shop", strategy="one_for_all") as sup:
            for name, fails in (("db", ()), ("cache", (4,)), ("feed", ())):
                await sup.start(diary.service(name, fails=fails, ready_after=1, stop_takes=1))
            await asyncio.sleep(97)
            lines = [line for line in diary.lines if 3 < line[0] < 100]

        assert lines == [
            (6, "cache", "fails"),
            (6, "feed", "is told"),
            (7, "feed", "stops"),
            (7, "db", "is told"),
            (8, "db", "stops"),
            (11, "db", "starts"),
            (12, "db", "is ready"),
            (12, "cache", "starts"),
            (13, "cache", "is ready"),
            (13, "feed", "starts"),
            (14, "feed", "is ready"),
        ]

    async def test_rest_for_one_restarts_those_that_came_after_it(self, diary):
        """Those before go on."""
        async with Supervisor("shop", strategy="rest_for_one") as sup:
            for name, fails in (("db", ()), ("cache", (4,)), ("feed", ()), ("web", ())):
                await sup.start(diary.service(name, fails=fails))
            await asyncio.sleep(100)
            lines = [line for line in diary.lines if 0 < line[0] < 100]

        assert lines == [
            (4, "cache", "fails"),
            (4, "web", "is told"),
            (4, "web", "stops"),
            (4, "feed", "is told"),
            (4, "feed", "stops"),
            (9, "cache", "starts"),
            (9, "feed", "starts"),
            (9, "web", "starts"),
        ]

    async def test_it_is_told_who_is_restarted_for_whose_sake(self, caplog, diary):
        """An INFO names them, and each is reported as stopped."""
        caplog.set_level(logging.INFO, logger="async_plus")
        with record_events() as events:
            async with Supervisor("shop", strategy="one_for_all") as sup:
                await sup.start(diary.service("db", fails=(4,)))
                await sup.start(diary.service("feed"))
                await asyncio.sleep(6)

        assert told(caplog)[:3] == [
            ("WARNING", "db failed after 4.0 s with Boom, restart 1 in 5.0 s"),
            ("INFO", "supervisor 'shop' restarts feed with db (one_for_all)"),
            ("INFO", "feed stopped, attempt 1"),
        ]
        [event] = [event for event in events if isinstance(event, SiblingsRestarted)]
        assert event == SiblingsRestarted(supervisor="shop", strategy="one_for_all", child="db", siblings=("feed",))

    async def test_those_that_are_done_stay_done(self, diary):
        """Whatever the strategy says."""
        async with Supervisor("shop", strategy="one_for_all") as sup:
            done = await sup.start(asyncio.sleep, 1)
            await sup.start(diary.service("db", fails=(4,)))
            await asyncio.sleep(20)
            assert done.state == "done"
            assert done.started_at < 86_400 + 1

    async def test_only_the_failed_ones_limit_counts(self, diary):
        """A sibling may be restarted for others' sake without end."""
        async with Supervisor("shop", strategy="one_for_all") as sup:
            await sup.start(diary.service("db", fails=(1,) * 10))
            other = await sup.start(diary.service("feed", max_restarts=0))
            await asyncio.sleep(100)
            assert diary.since(0).count(("feed", "starts")) == 11
            assert (other.state, other.restarts) == ("running", 0)

    async def test_a_second_failure_while_the_first_is_dealt_with_is_its_own(self, diary, caplog):
        """Both are reported, both delays are waited for, and each child is started once."""
        async with Supervisor("shop", strategy="one_for_all") as sup:
            await sup.start(diary.service("db", fails=(4,), delays=[5]))
            await sup.start(diary.service("cache", fails=(4.5,), delays=[50]))
            await sup.start(diary.service("feed", stop_takes=1))
            await asyncio.sleep(80)
            lines = [line for line in diary.lines if 0 < line[0] < 80]

        assert lines == [
            (4, "db", "fails"),
            (4, "feed", "is told"),
            (4.5, "cache", "fails"),
            (5, "feed", "stops"),
            (54.5, "db", "starts"),
            (54.5, "cache", "starts"),
            (54.5, "feed", "starts"),
        ]
        assert [text for _, text in told(caplog)] == [
            "db failed after 4.0 s with Boom, restart 1 in 5.0 s",
            "cache failed after 4.5 s with Boom, restart 1 in 50.0 s",
        ]

    async def test_a_failure_before_those_in_their_delay_restarts_them_with_it(self, diary):
        """Each failed one waits for its own delay, in order."""
        async with Supervisor("shop", strategy="rest_for_one") as sup:
            await sup.start(diary.service("db", fails=(6,), delays=[1]))
            await sup.start(diary.service("cache", fails=(4,), delays=[50]))
            await sup.start(diary.service("feed"))
            await asyncio.sleep(80)
            lines = [line for line in diary.lines if 4 < line[0] < 80]

        assert lines == [
            (6, "db", "fails"),
            (7, "db", "starts"),
            (54, "cache", "starts"),
            (54, "feed", "starts"),
        ]

    async def test_a_failure_during_the_restart_begins_it_anew(self, diary):
        """The ones that are up again are stopped again."""
        async with Supervisor("shop", strategy="one_for_all") as sup:
            await sup.start(diary.service("db", fails=(4,)))
            await sup.start(diary.service("cache", fails=(9, 1)))
            await sup.start(diary.service("feed", ready_after=3))
            await asyncio.sleep(40)
            lines = [line for line in diary.lines if 3 < line[0] < 40]

        assert lines == [
            (4, "db", "fails"),
            (4, "feed", "is told"),
            (4, "feed", "stops"),
            (4, "cache", "is told"),
            (4, "cache", "stops"),
            (9, "db", "starts"),
            (9, "cache", "starts"),
            (9, "feed", "starts"),
            (10, "cache", "fails"),
            (10, "feed", "is told"),
            (10, "feed", "stops"),
            (10, "db", "is told"),
            (10, "db", "stops"),
            (15, "db", "starts"),
            (15, "cache", "starts"),
            (15, "feed", "starts"),
            (18, "feed", "is ready"),
        ]

    async def test_an_error_while_it_is_stopped_for_a_sibling_is_reported_once(self, caplog):
        """And it is started again all the same."""
        starts = []

        async def feed():
            starts.append(elapsed())
            try:
                await forever()
            finally:
                raise Bang

        @supervised(name="db", delays=[5])
        async def db():
            await asyncio.sleep(4)
            raise Boom

        async with Supervisor("shop", strategy="one_for_all") as sup:
            await sup.start(db)
            child = await sup.start(feed, name="feed")
            await asyncio.sleep(10)
            assert starts == [0, 9]
            assert type(child.last_error) is Bang

        assert [text for _, text in told(caplog)] == [
            "db failed after 4.0 s with Boom, restart 1 in 5.0 s",
            "feed failed after 4.0 s with Bang, not restarted: it is being stopped",
            "feed failed after 1.0 s with the same Bang, not restarted: it is being stopped",
        ]

    async def test_a_normal_return_under_always_restarts_by_the_strategy_too(self, diary):
        """It is an end that is followed by a restart."""
        starts = []

        @supervised(restart="always", delays=[5])
        async def job():
            starts.append(elapsed())
            await asyncio.sleep(1)

        async with Supervisor("shop", strategy="one_for_all") as sup:
            await sup.start(job)
            await sup.start(diary.service("feed"))
            await asyncio.sleep(7)
            assert starts == [0, 6]
            assert diary.since(1)[:3] == [("feed", "is told"), ("feed", "stops"), ("feed", "starts")]


@virtual
class TestPolicies:
    async def test_a_supervised_function_is_restarted_by_one_loop(self):
        """Its policy is that of the child; what it calls in turn is supervised by itself."""
        outer_starts, inner_starts = [], []

        @supervised(delays=[3], name="inner")
        async def inner():
            inner_starts.append(elapsed())
            await asyncio.sleep(1)
            if len(inner_starts) % 2:
                raise Boom

        @supervised(delays=[10], name="outer")
        async def outer():
            outer_starts.append(elapsed())
            await inner()
            if len(outer_starts) == 1:
                raise Bang

        async with Supervisor("shop") as sup:
            child = await sup.start(outer)
            await sup.wait()

        assert inner_starts == [0, 4, 15, 19]
        assert outer_starts == [0, 15]
        assert (child.restarts, child.state) == (1, "done")

    async def test_a_supervised_child_takes_one_task(self):
        """Nothing stands between the supervisor and the attempt."""
        before = asyncio.all_tasks()
        async with Supervisor("shop") as sup:
            await sup.start(supervised(forever))
            await turns()
            assert len(asyncio.all_tasks() - before) == 1

    @pytest.mark.parametrize("shape", ["bound method", "partial", "impatient", "wrapped", "object", "decorated object"])
    async def test_the_policy_is_found_in_every_shape(self, shape):
        """A bound method keeps its object, and decorators around are called each time."""
        calls = []

        class Feed:
            @supervised(delays=[7], name="feed")
            async def run(self, *args):
                calls.append((self, *args, elapsed()))
                await asyncio.sleep(1)
                raise Boom

        class Callable:
            @supervised(delays=[7], name="feed")
            async def __call__(self, *args):
                await Feed.run.__wrapped__(self, *args)

        class Plain:
            async def __call__(self, *args):
                await Feed.run.__wrapped__(self, *args)

        feed = Feed()

        @functools.wraps(Feed.run)
        async def wrapped(*args):
            return await Feed.run(feed, *args)

        fn = {
            "bound method": feed.run,
            "partial": functools.partial(functools.partial(Feed.run, feed)),
            "impatient": impatient(log_after=60)(feed.run),
            "wrapped": wrapped,
            "object": (feed := Callable()),
            "decorated object": supervised(delays=[7], name="feed")(feed := Plain()),
        }[shape]
        feed = {"object": feed, "decorated object": feed}.get(shape, calls and None) or getattr(fn, "__self__", feed)

        async with Supervisor("shop") as sup:
            child = await sup.start(fn, "url")
            await asyncio.sleep(8.5)
            assert (child.name, child.restarts, len(calls)) == ("feed", 1, 2)
        assert [(args, when) for _, args, when in calls] == [("url", 0), ("url", 8)]
        assert calls[0][0] is calls[1][0]

    async def test_a_function_without_a_policy_is_not_restarted(self):
        """Its failure is the end."""

        async def feed():
            await asyncio.sleep(1)
            raise Boom

        with pytest.raises(Boom):
            async with Supervisor("shop") as sup:
                child = await sup.start(feed)
                await sup.wait()
        assert child.state == "failed"

    async def test_a_hung_child_is_restarted_by_the_strategy(self, diary, caplog):
        """It is reported with where it is parked, and named if it ignores its cancellation."""
        starts = []

        @supervised(heartbeat=10, delays=[5], name="db")
        async def db():
            starts.append(elapsed())
            heartbeat()
            try:
                await forever()
            except asyncio.CancelledError:
                await asyncio.sleep(6)

        async with Supervisor("shop", strategy="rest_for_one") as sup:
            child = await sup.start(db)
            await sup.start(diary.service("feed"))
            await asyncio.sleep(12)
            assert child.state == "stopping"
            await asyncio.sleep(10)
            assert starts == [0, 21]
            assert child.state == "running"
            await child.stop()

        assert [text.partition(" parked")[0] for _, text in told(caplog)] == [
            "db hangs: no heartbeat for 10.0 s, attempt 1 is",
            "supervisor 'shop' still waits for 1 cancelled task after 5.0 s: 'db#1'",
            "db failed after 16.0 s with Hung, restart 1 in 5.0 s",
            "supervisor 'shop' still waits for 1 cancelled task after 5.0 s: 'db#2'",
        ]
        assert (21, "feed", "starts") in diary.lines

    async def test_one_that_is_cancelled_by_others_failed(self, caplog):
        """It is no stop: with UnexpectedCancellation it is restarted."""
        tasks = []

        @supervised(delays=[5], name="feed")
        async def feed():
            tasks.append(asyncio.current_task())
            await forever()

        async with Supervisor("shop") as sup:
            child = await sup.start(feed)
            await turns()
            tasks[0].cancel()
            await asyncio.sleep(6)
            assert (len(tasks), child.restarts) == (2, 1)
        assert told(caplog) == [("WARNING", "feed failed after 0.0 s with UnexpectedCancellation, restart 1 in 5.0 s")]


@virtual
class TestTrees:
    async def test_a_supervisor_in_a_child_is_below_it(self, diary):
        """It is stopped with it, and started again with it."""

        leaf = diary.service("leaf", fails=(1, 1), max_restarts=1, delays=[1])
        children = []
        gate = asyncio.Event()

        @supervised(delays=[5], name="branch")
        async def branch():
            await gate.wait()
            async with Supervisor("inner") as inner:
                assert inner._parent is children[0]
                await inner.start(leaf)
                await inner.wait()

        async with Supervisor("outer") as outer:
            children.append(await outer.start(branch))
            gate.set()
            await asyncio.sleep(50)
            assert children[0].state == "running"
            assert children[0].restarts == 1
        assert [line for line in diary.lines if line[2] == "starts"] == [
            (0, "leaf", "starts"),
            (2, "leaf", "starts"),
            (8, "leaf", "starts"),
        ]

    async def test_a_child_may_start_others(self, diary):
        """Also before it is ready itself, under every strategy."""
        for strategy in ("one_for_one", "one_for_all", "rest_for_one"):
            async with Supervisor("shop", strategy=strategy) as sup:

                @supervised(ready=True)
                async def boot(sup=sup):
                    await sup.start(diary.service("db", ready_after=1))
                    ready()
                    await forever()

                child = await sup.start(boot)
                assert child.state == "running"
                assert len(sup.children) == 2


@virtual
async def test_attempts_are_numbered_and_told(diary):
    """AttemptStarted for each, whoever asked for it."""
    with record_events() as events:
        async with Supervisor("shop") as sup:
            child = await sup.start(diary.service("db", fails=(1,)))
            await asyncio.sleep(10)
            await child.restart()
    assert [event.attempt for event in events if isinstance(event, AttemptStarted)] == [1, 2, 3]
    assert not [event for event in events if isinstance(event, LateFailure)]


@virtual
async def test_who_waits_for_a_supervisor_is_described(diary):
    """By its children, so that a hang can be followed."""
    from async_plus import stacks

    async def host():
        async with Supervisor("shop") as sup:
            await sup.start(diary.service("db"))
            await sup.wait()

    task = await start(host())
    assert str(stacks.parked(task)).endswith("on supervisor 'shop' of 'db#1'")
    task.cancel()
    await asyncio.wait([task])
