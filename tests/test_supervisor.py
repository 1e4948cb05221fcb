"""`Supervisor`: children that start in order, come back by a strategy, and stop in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging

import pytest
from services import end_of, told
from tools import Bang, Boom, forever, no_garbage_of_reports, refused, start, turns

from async_plus import (
    AttemptFailed,
    AttemptStarted,
    Child,
    GaveUp,
    LateFailure,
    SiblingsRestarted,
    Supervisor,
    cancel_and_wait,
    heartbeat,
    impatient,
    ready,
    supervised,
    watched,
)
from async_plus.testing import record_events

virtual = pytest.mark.virtual_time


def elapsed():
    return asyncio.get_running_loop().clock.elapsed


class Diary:
    """What happened to the services that `service` makes, and when."""

    def __init__(self):
        self.lines = []

    def __call__(self, name, what):
        self.lines.append((elapsed(), name, what))

    def since(self, when):
        return [(name, what) for then, name, what in self.lines if then >= when]

    def service(self, name, *, fails=(), ready_after=None, stop_takes=0, **options):
        """Make a supervised service. Its n-th attempt fails after ``fails[n]`` seconds; later ones run for ever."""
        left = list(fails)

        @supervised(**{"name": name, "ready": ready_after is not None, "delays": [5]} | options)
        async def run():
            self(name, "starts")
            try:
                if ready_after is not None:
                    await asyncio.sleep(ready_after)
                    self(name, "is ready")
                    ready()
                if left:
                    seconds = left.pop(0)
                    await asyncio.sleep(seconds)
                    self(name, "fails")
                    raise Boom(name)
                await forever()
            except asyncio.CancelledError:
                self(name, "is told")
                await asyncio.sleep(stop_takes)
                self(name, "stops")
                raise

        return run


@pytest.fixture
def diary():
    return Diary()


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
        assert event == SiblingsRestarted(
            supervisor="shop", strategy="one_for_all", child="db", siblings=("feed",)
        )

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
        assert told(caplog) == [
            ("WARNING", "feed failed after 0.0 s with UnexpectedCancellation, restart 1 in 5.0 s")
        ]


@virtual
class TestGivingUp:
    async def test_its_own_error_is_raised_by_wait_when_the_others_have_stopped(self, diary, caplog):
        """In reverse, one at a time; with a note that names child and supervisor, and once."""
        error = Bang("the disk is full")

        @supervised(on=OSError, name="feed")
        async def feed():
            await asyncio.sleep(1)
            raise error

        async with Supervisor("shop") as sup:
            await sup.start(diary.service("db", stop_takes=2))
            await sup.start(diary.service("cache", stop_takes=2))
            child = await sup.start(feed)
            with pytest.raises(Bang) as caught:
                await sup.wait()
            assert elapsed() == 5
            assert sup.children == ()
            assert (child.state, repr(child.last_error)) == ("failed", repr(error))
            assert child.last_error.__traceback__ is None

        assert caught.value is error
        assert error.__notes__ == ["child 'feed' of supervisor 'shop'"]
        assert [line for line in diary.lines if line[0]] == [
            (1, "cache", "is told"),
            (3, "cache", "stops"),
            (3, "db", "is told"),
            (5, "db", "stops"),
        ]
        assert told(caplog) == [
            ("ERROR", "feed is not restarted: the last attempt failed with Bang after 1.0 s")
        ]

    async def test_without_wait_it_is_raised_at_the_end_of_the_block(self):
        """The host is not cancelled, and goes on until then."""
        steps = []
        with pytest.raises(Boom):
            async with Supervisor("shop") as sup:
                await sup.start(functools.partial(fail_after, 1))
                await asyncio.sleep(5)
                steps.append(elapsed())
        assert steps == [5]
        assert asyncio.current_task().cancelling() == 0

    async def test_past_its_limit_the_last_error_is_raised_with_both_notes(self, caplog):
        """And GaveUp told once."""

        @supervised(delays=[1], max_restarts=2, name="feed")
        async def feed():
            raise Boom

        with record_events() as events, pytest.raises(Boom) as caught:
            async with Supervisor("shop") as sup:
                await sup.start(feed)
                await sup.wait()

        assert caught.value.__notes__ == ["gave up on feed after 2 restarts", "child 'feed' of supervisor 'shop'"]
        assert [event.restarts for event in events if isinstance(event, GaveUp)] == [2]
        assert len([event for event in events if isinstance(event, AttemptFailed)]) == 2

    async def test_an_exception_of_the_block_goes_first(self, caplog):
        """The child's error is then reported, with its traceback."""
        with pytest.raises(Bang):
            async with Supervisor("shop") as sup:
                await sup.start(functools.partial(fail_after, 1), name="feed")
                await asyncio.sleep(5)
                raise Bang

        assert told(caplog)[1:] == [
            ("ERROR", "task 'feed' failed with Boom, not raised by supervisor 'shop': it ends otherwise")
        ]
        assert caplog.records[1].exc_info[0] is Boom

    async def test_a_cancellation_of_the_host_goes_first_too(self, caplog):
        """The error is not lost."""

        async def host():
            async with Supervisor("shop") as sup:
                await sup.start(functools.partial(fail_after, 1), name="feed")
                await forever()

        task = asyncio.create_task(host())
        await asyncio.sleep(2)
        task.cancel()

        assert await end_of(task) == "cancelled"
        assert [text for _, text in told(caplog)][1:] == [
            "task 'feed' failed with Boom, not raised by supervisor 'shop': it ends otherwise"
        ]

    async def test_it_is_raised_once(self):
        """Who caught it from wait() is not told again at the end."""
        async with Supervisor("shop") as sup:
            await sup.start(functools.partial(fail_after, 1))
            with pytest.raises(Boom):
                await sup.wait()

    async def test_after_it_nothing_is_started(self):
        """It is refused with the name of the child, and the error as its cause."""
        async with Supervisor("shop") as sup:
            child = await sup.start(functools.partial(fail_after, 1), name="feed")
            with pytest.raises(Boom):
                await sup.wait()
            with refused(RuntimeError, "cannot start 'sleep': supervisor 'shop' gave up on 'feed'"):
                await sup.start(asyncio.sleep, 1)
            with pytest.raises(RuntimeError) as refusal:
                await child.restart()
            assert str(refusal.value) == "cannot restart 'feed': supervisor 'shop' gave up on 'feed'"
            assert type(refusal.value.__cause__) is Boom

    async def test_start_raises_it_if_it_comes_before_the_child_is_ready(self, diary):
        """Of the child itself, or of another one; when all have stopped."""

        @supervised(ready=True, restart="never", name="web")
        async def web():
            await asyncio.sleep(1)
            raise Boom

        for fn in (web, diary.service("slow", ready_after=100)):
            begin = elapsed()
            async with Supervisor("shop") as sup:
                await sup.start(diary.service("db", stop_takes=2))
                if fn is not web:
                    await sup.start(functools.partial(fail_after, 1))
                with pytest.raises(Boom):
                    await sup.start(fn)
                assert elapsed() == begin + 3
                assert sup.children == ()

    async def test_an_error_of_the_predicate_is_the_end(self, caplog):
        """It is raised like the child's own, with the failure as its context."""

        def on(exc):
            raise KeyError("typo")

        @supervised(on=on, name="feed")
        async def feed():
            raise Boom

        with pytest.raises(KeyError) as caught:
            async with Supervisor("shop") as sup:
                await sup.start(feed)
                await sup.wait()
        assert type(caught.value.__context__) is Boom
        assert caught.value.__notes__ == ["child 'feed' of supervisor 'shop'"]

    async def test_the_same_error_is_annotated_once(self):
        """A service may raise one and the same again and again."""
        error = Boom()

        async def feed():
            raise error

        for _ in range(2):
            with pytest.raises(Boom):
                async with Supervisor("shop") as sup:
                    await sup.start(feed, name="feed")
                    await sup.wait()
        assert error.__notes__ == ["child 'feed' of supervisor 'shop'"]

    async def test_one_that_takes_no_note_is_raised_all_the_same(self):
        """A frozen dataclass refuses to be annotated."""

        class FrozenError(Exception):
            def __setattr__(self, name, value):
                raise AttributeError(name)

        async def feed():
            raise FrozenError

        with pytest.raises(FrozenError):
            async with Supervisor("shop") as sup:
                await sup.start(feed)
                await sup.wait()

    async def test_nothing_is_kept_by_reference_cycles(self):
        """The error that is raised leads to the host, which may well hold supervisor and child."""

        async def host():
            async with Supervisor("shop") as sup:
                child = await sup.start(functools.partial(fail_after, 1))
                await sup.wait()
                del child

        with no_garbage_of_reports():
            await asyncio.wait([asyncio.ensure_future(swallow(host))])

    async def test_a_failure_while_the_others_are_stopped_is_reported(self, caplog, diary):
        """It came before its turn, so that it failed by itself; nobody will raise it."""
        with pytest.raises(Boom):
            async with Supervisor("shop") as sup:
                child = await sup.start(functools.partial(fail_after, 2, Bang), name="early")
                await sup.start(diary.service("slow", stop_takes=4))
                await sup.start(functools.partial(fail_after, 1), name="feed")
                await sup.wait()
        assert child.state == "failed"
        assert [text for _, text in told(caplog)] == [
            "feed is not restarted: the last attempt failed with Boom after 1.0 s",
            "early failed after 2.0 s with Bang, not restarted: it is being stopped",
        ]


async def swallow(host):
    with contextlib.suppress(Boom):
        await host()


async def fail_after(seconds, kind=Boom):
    await asyncio.sleep(seconds)
    raise kind


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

    async def test_restart_skips_the_delay(self, diary):
        """Of the whole group, if it waits together."""
        async with Supervisor("shop", strategy="one_for_all") as sup:
            child = await sup.start(diary.service("db", fails=(1,), delays=[100]))
            other = await sup.start(diary.service("feed"))
            await asyncio.sleep(3)
            assert (child.state, other.state) == ("backoff", "backoff")
            await other.restart()
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
                child = await sup.start(functools.partial(fail_after, 3))
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


@virtual
class TestCancellation:
    async def test_the_host_is_cancelled_while_it_waits(self, diary):
        """The children are stopped in order, and the cancellation goes on."""
        host = asyncio.create_task(self.host(diary))
        await asyncio.sleep(1)
        host.cancel("enough")

        with pytest.raises(asyncio.CancelledError) as caught:
            await host
        assert caught.value.args == ("enough",)
        assert diary.since(1) == [("feed", "is told"), ("feed", "stops"), ("db", "is told"), ("db", "stops")]
        assert elapsed() == 5

    async def test_again_during_the_stop(self, diary):
        """Each child is cancelled once, and all have ended when it does."""
        host = asyncio.create_task(self.host(diary))
        await asyncio.sleep(1)
        host.cancel("first")
        await asyncio.sleep(1)
        host.cancel("second")
        await asyncio.sleep(1)
        host.cancel("third")

        with pytest.raises(asyncio.CancelledError):
            await host
        assert host.cancelling() == 3
        assert diary.since(1) == [("feed", "is told"), ("feed", "stops"), ("db", "is told"), ("db", "stops")]
        assert elapsed() == 5

    async def test_at_the_end_of_a_block_that_failed(self, diary):
        """The cancellation wins, with the exception of the block as its context."""

        async def host():
            async with Supervisor("shop") as sup:
                await sup.start(diary.service("db", stop_takes=2))
                await asyncio.sleep(1)
                raise Boom

        task = asyncio.create_task(host())
        await asyncio.sleep(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert type(caught.value.__context__) is Boom
        assert elapsed() == 3

    async def host(self, diary):
        async with Supervisor("shop") as sup:
            await sup.start(diary.service("db", stop_takes=2))
            await sup.start(diary.service("feed", stop_takes=2))
            await sup.wait()

    async def test_a_start_that_is_cancelled_stops_its_child(self, diary):
        """However often it is cancelled; the others go on."""
        async with Supervisor("shop") as sup:
            other = await sup.start(diary.service("db"))
            task = asyncio.create_task(sup.start(diary.service("feed", ready_after=10, stop_takes=2)))
            await asyncio.sleep(1)
            task.cancel("first")
            await asyncio.sleep(1)
            task.cancel("second")
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert caught.value.args == ("first",)
            assert elapsed() == 3
            assert sup.children == (other,)

    async def test_a_stop_that_is_cancelled_goes_on(self, diary):
        """The child is the supervisor's, not the caller's: that need not wait for it."""
        async with Supervisor("shop") as sup:
            child = await sup.start(diary.service("db", stop_takes=2))
            await turns()
            task = asyncio.create_task(child.stop())
            await turns()
            task.cancel()
            assert await end_of(task) == "cancelled"
            assert (elapsed(), child.state) == (0, "stopping")
            await child.wait()
            assert (elapsed(), child.state) == (2, "done")

    async def test_all_tasks_at_once(self, caplog, diary):
        """As asyncio.run does at its end: that is no failure, and nothing is restarted meanwhile."""
        host = asyncio.create_task(self.host(diary))
        await asyncio.sleep(1)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        assert await end_of(host) == "cancelled"

        assert told(caplog) == []
        assert diary.since(1).count(("db", "starts")) == 0

    async def test_all_tasks_at_once_with_a_host_that_goes_on(self, diary):
        """What was cancelled is started again then, so that no service is missing for good."""

        async def host():
            async with Supervisor("shop") as sup:
                await sup.start(diary.service("db", delays=[0]))
                try:
                    await forever()
                except asyncio.CancelledError:
                    await asyncio.sleep(10)
                return [child.state for child in sup.children]

        task = asyncio.create_task(host())
        await asyncio.sleep(1)
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()
        assert await task == ["running"]
        assert diary.since(0)[:4] == [("db", "starts"), ("db", "is told"), ("db", "stops"), ("db", "starts")]

    async def test_a_host_that_is_closed_leaves_without_waiting(self, diary):
        """GeneratorExit in wait(): the children are cancelled, and may outlive it."""
        running = []

        async def host():
            async with Supervisor("shop") as sup:
                running.append(await sup.start(diary.service("db", stop_takes=1)))
                running.append(await sup.start(diary.service("feed", stop_takes=1)))
                await sup.wait()

        coro = host()
        coro.send(None)
        await turns()
        coro.close()
        await asyncio.sleep(2)

        assert [child.state for child in running] == ["done", "done"]
        assert sorted(diary.since(0)) == sorted(
            (name, what) for name in ("db", "feed") for what in ("starts", "is told", "stops")
        )

    async def test_an_async_generator_may_host_it(self, diary):
        """Its aclose() waits for the children."""

        async def numbers():
            async with Supervisor("shop") as sup:
                await sup.start(diary.service("db", stop_takes=1))
                await turns()
                yield 1
                yield 2

        generator = numbers()
        assert await anext(generator) == 1
        await generator.aclose()
        assert diary.since(0) == [("db", "starts"), ("db", "is told"), ("db", "stops")]


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


class Factory:
    """A task factory that makes some tasks, and fails once."""

    def __init__(self, error, *, after):
        self.error = error
        self.left = after

    def __call__(self, loop, coro, **options):
        self.left -= 1
        if self.left == -1:
            raise self.error
        return asyncio.Task(coro, loop=loop, **options)


@pytest.fixture
async def factory():
    """Set the task factory of the loop, for the rest of the test."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    yield loop.set_task_factory
    loop.set_task_factory(before)


@virtual
class TestTaskFactories:
    async def test_one_that_fails_at_the_first_start_fails_the_start(self, factory):
        """There is no child then, and the supervision goes on."""
        async with Supervisor("shop") as sup:
            factory(Factory(Bang(), after=0))
            with pytest.raises(Bang):
                await sup.start(supervised(ready=True, heartbeat=1)(forever))
            factory(None)
            assert sup.children == ()
            await sup.start(asyncio.sleep, 1)
            await sup.wait()

    async def test_one_that_fails_at_a_restart_is_the_end(self, factory):
        """No restart would help. The error is raised like the child's own."""
        async with Supervisor("shop") as sup:
            factory(Factory(Bang(), after=1))
            child = await sup.start(supervised(delays=[5], name="feed")(functools.partial(fail_after, 1)))
            with pytest.raises(Bang) as caught:
                await sup.wait()
            assert (elapsed(), child.state) == (6, "failed")
            assert caught.value.__notes__ == ["child 'feed' of supervisor 'shop'"]

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    async def test_an_exit_comes_out_and_the_others_are_stopped(self, factory, kind, diary, caplog):
        """As from the first step of an eager task; it is no error to report."""
        with pytest.raises(kind):
            async with Supervisor("shop") as sup:
                other = await sup.start(diary.service("db"))
                await turns()
                factory(Factory(kind(3), after=0))
                await sup.start(forever)
        assert other.state == "done"
        assert told(caplog) == []

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    async def test_an_exit_goes_before_an_error_of_the_block(self, factory, kind, caplog):
        """Nobody has to be told that the program ends."""
        with pytest.raises(Boom):
            async with Supervisor("shop") as sup:
                factory(Factory(kind(3), after=0))
                with pytest.raises(kind):
                    await sup.start(forever)
                raise Boom
        assert told(caplog) == []


@virtual
class TestEager:
    @pytest.mark.asyncio(loop_factories=["eager"])
    async def test_a_first_step_may_stop_or_restart_its_own_child(self):
        """It is not known as a task yet; it is cancelled when it is."""
        calls = []
        sup = Supervisor("shop")

        async def feed():
            [child] = sup.children
            calls.append(child.state)
            # Not awaited in this step: whoever waits is told later.
            task = asyncio.get_running_loop().create_task(child.stop())
            await forever()
            await task

        async with sup:
            child = await sup.start(feed)
            await sup.wait()
            assert child.state == "done"
        assert calls == ["starting"]

    @pytest.mark.asyncio(loop_factories=["eager"])
    async def test_a_first_step_may_restart_its_own_child(self):
        """There is never a second attempt beside the first."""
        calls, alive = [], []
        sup = Supervisor("shop")

        async def feed():
            [child] = sup.children
            alive.append(len(alive))
            assert alive == [0]
            calls.append(len(calls))
            try:
                if len(calls) == 1:
                    await child.restart()
                await forever()
            finally:
                alive.pop()

        async with sup:
            child = await sup.start(feed)
            await turns()
            assert (calls, child.state, child.restarts) == ([0, 1], "running", 0)

    @pytest.mark.asyncio(loop_factories=["eager"])
    @pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
    async def test_a_first_step_may_start_another_one(self, strategy, diary):
        """While the first is being started."""
        sup = Supervisor("shop", strategy=strategy)

        async def boot():
            await sup.start(diary.service("db"))
            await forever()

        async with sup:
            await sup.start(boot)
            await turns()
            assert len(sup.children) == 2
            assert diary.lines == [(0, "db", "starts")]

    async def test_one_that_is_done_at_once(self):
        """start() returns its handle."""

        async def job():
            return 5

        async with Supervisor("shop") as sup:
            child = await sup.start(job)
            await turns()
            assert child.state == "done"
            await sup.wait()

    @pytest.mark.asyncio(loop_factories=["eager"])
    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    async def test_an_exit_in_the_first_step_comes_out_of_start(self, kind, diary, no_leaks):
        """The others are stopped, and nothing is reported, but for a line of asyncio's own."""

        async def leave():
            raise kind(3)

        with pytest.raises(kind):
            async with Supervisor("shop") as sup:
                other = await sup.start(diary.service("db"))
                await turns()
                try:
                    await sup.start(leave)
                finally:
                    assert len(sup.children) == 1
        assert other.state == "done"
        gc.collect()
        no_leaks.errors.clear()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_of_a_child_ends_the_program_in_order(kind):
    """The loop raises it; the others are stopped, and whoever waits for the children gets it as well."""
    log = []

    async def leave():
        await asyncio.sleep(0)
        raise kind(3)

    async def other():
        try:
            await forever()
        finally:
            log.append("other stopped")

    async def host():
        async with Supervisor("shop") as sup:
            await sup.start(other)
            await sup.start(leave)
            await sup.wait()

    loop = asyncio.new_event_loop()
    task = loop.create_task(host())
    for _ in range(2):
        with pytest.raises(kind):
            loop.run_until_complete(task)
    assert isinstance(task.exception(), kind)
    assert log == ["other stopped"]
    loop.close()


class TestMisuse:
    @pytest.mark.parametrize(
        ("args", "options", "kind", "message"),
        [
            ((5,), {}, TypeError, "name must be a string, got int 5"),
            (
                ("shop",),
                {"strategy": "all"},
                ValueError,
                "strategy must be one of 'one_for_one', 'one_for_all', 'rest_for_one', got 'all'",
            ),
            (("shop",), {"warn_after": 0}, ValueError, "warn_after must be a finite number of seconds > 0, got 0"),
        ],
    )
    def test_options_are_checked(self, args, options, kind, message):
        """When it is made."""
        with refused(kind, message):
            Supervisor(*args, **options)

    async def test_what_is_no_coroutine_function_is_refused(self):
        """With the likely fix; coroutines are closed."""

        async def feed():
            pass

        @watched
        async def saver():
            pass

        def plain():
            pass

        wrong = "Supervisor.start() needs a coroutine function, got "
        async with Supervisor("shop") as sup:
            with refused(TypeError, wrong + "coroutine (pass the function and its arguments, without calling it)"):
                await sup.start(feed())
            for fn, text in [
                (plain, f"the function {plain.__qualname__}"),
                (saver, f"the function {saver.__qualname__}"),
                (Boom, "the class Boom"),
                (None, "NoneType"),
            ]:
                with pytest.raises(TypeError) as caught:
                    await sup.start(fn, feed(), option=feed())
                assert str(caught.value).startswith(wrong + text.partition(" saver")[0]), fn
            with refused(TypeError, "name must be a string, got int 5"):
                await sup.start(feed, name=5)
            assert sup.children == ()

    async def test_arguments_that_do_not_fit_are_raised_by_start(self):
        """As a call of the function would; there is no child, and the supervision goes on."""

        async def feed(url):
            pass

        async with Supervisor("shop") as sup:
            with pytest.raises(TypeError, match="missing 1 required positional argument"):
                await sup.start(feed)
            # A supervised one is not restarted for that either.
            with refused(TypeError, f"the arguments do not fit {feed.__qualname__}: too many positional arguments"):
                await sup.start(supervised(feed), "url", 5)
            assert sup.children == ()
            await sup.start(feed, "url")
            await sup.start(supervised(feed), url="url")
            await sup.wait()

    async def test_a_function_without_a_signature_is_started_as_it_is(self):
        """Whether the arguments fit is seen when it is called."""

        async def feed(url):
            pass

        feed.__signature__ = "none"
        async with Supervisor("shop") as sup:
            await sup.start(supervised(feed), "url")
            await sup.wait()

    async def test_it_serves_one_block(self):
        """Entered twice, left without being entered, or used before: refused."""
        sup = Supervisor("shop")
        with refused(RuntimeError, "cannot start a child before the Supervisor is entered: use 'async with' first"):
            await sup.start(forever)
        with refused(
            RuntimeError, "cannot wait before the Supervisor is entered: use 'async with Supervisor() as sup'"
        ):
            await sup.wait()
        with refused(RuntimeError, "this Supervisor cannot be left, since it is not entered"):
            await sup.__aexit__(None, None, None)
        async with sup:
            with refused(RuntimeError, "a Supervisor can be entered once, and this one is open"):
                await sup.__aenter__()
            child = await sup.start(forever)
        with refused(RuntimeError, "cannot start 'forever': the block of supervisor 'shop' has ended"):
            await sup.start(forever)
        with refused(RuntimeError, "cannot restart 'forever': the block of supervisor 'shop' has ended"):
            await child.restart()
        await sup.wait()
        await child.stop()

    def test_a_plain_with_is_refused(self):
        """With the fix."""
        with refused(TypeError, "use 'async with Supervisor(...)', not 'with'"), Supervisor("shop"):
            pass
        with refused(TypeError, "use 'async with Supervisor(...)', not 'with'"):
            Supervisor("shop").__exit__(None, None, None)

    async def test_other_loops_are_refused(self):
        """Its tasks belong to one."""
        async with Supervisor("shop") as sup:
            child = await sup.start(forever)

            def elsewhere():
                for call, text in [
                    (functools.partial(sup.start, forever), "start 'forever'"),
                    (sup.wait, "wait for the children"),
                    (child.stop, "stop 'forever'"),
                    (child.restart, "restart 'forever'"),
                    (child.wait, "wait for 'forever'"),
                ]:
                    with refused(RuntimeError, f"cannot {text} from outside the loop of supervisor 'shop'"):
                        asyncio.run(call())

            await asyncio.to_thread(elsewhere)


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
