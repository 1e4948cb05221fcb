"""The limit of `try_gather`: how many coroutines run at a time, and what becomes of those that wait."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses

import hypothesis
import hypothesis.strategies as st
import pytest
from tools import (
    Awaitable,
    Bang,
    Boom,
    Lookalike,
    Numberlike,
    after,
    closed,
    fail,
    forever,
    futures,
    give,
    noting,
    outlast,
    refused,
    start,
    turns,
)

from async_plus import UnexpectedCancellation, try_gather

request_id = contextvars.ContextVar("request_id", default="none")


class Meter:
    """Counts who runs, and how many did at a time."""

    def __init__(self):
        self.running = self.most = 0
        self.started = []

    @contextlib.contextmanager
    def on(self, name):
        self.started.append(name)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            yield
        finally:
            self.running -= 1

    async def run(self, name, coroutine):
        with self.on(name):
            await coroutine
            return name


class TestPlaces:
    @pytest.mark.parametrize(("limit", "most"), [(1, 1), (3, 3), (Numberlike(3), 3), (10, 10), (11, 10), (None, 10)])
    async def test_at_most_so_many_run_at_a_time_and_results_keep_their_order(self, limit, most):
        """As many as may, too: a limit above the number of coroutines is as good as none."""
        meter = Meter()

        results = await try_gather(*(meter.run(name, turns(1 + name % 3)) for name in range(10)), limit=limit)

        assert results == list(range(10))
        assert meter.most == most
        assert meter.started == list(range(10))

    async def test_the_next_one_starts_when_a_place_is_free(self):
        """In the order of the arguments, whichever of the running ones has finished."""
        meter = Meter()
        first, second, third, fourth = futures(4)
        waits = map(after, (first, second, third, fourth))
        host = await start(try_gather(*map(meter.run, "abcd", waits), limit=2))
        assert meter.started == ["a", "b"]

        second.set_result(None)
        await turns()
        assert meter.started == ["a", "b", "c"]
        third.set_result(None)
        await turns()
        assert meter.started == ["a", "b", "c", "d"]
        fourth.set_result(None)
        first.set_result(None)

        assert await host == ["a", "b", "c", "d"]

    async def test_tasks_and_futures_take_no_place(self):
        """They run already, whatever the limit says."""
        meter = Meter()
        parked = [asyncio.create_task(forever()) for _ in range(3)]
        host = await start(
            try_gather(*parked, meter.run("a", turns(3)), *futures(3), meter.run("b", turns(3)), limit=1)
        )
        await turns(20)

        assert meter.started == ["a", "b"]
        assert meter.most == 1
        host.cancel()
        await asyncio.wait([host])
        assert all(task.cancelled() for task in parked)

    async def test_tasks_and_futures_are_owned_from_the_start(self):
        """A failure stops them although the coroutines before them have not all run."""
        [future] = futures(1)
        task = await start(forever())

        with pytest.raises(Boom):
            await try_gather(fail(Boom()), give(1), task, future, limit=1)

        assert task.cancelled()
        assert future.cancelled()

    async def test_a_finished_task_that_was_given_frees_no_place(self):
        """What is given takes no place under the limit, so it leaves none when it is done."""
        meter = Meter()
        [released] = futures(1)
        tasks = [asyncio.create_task(give("given")) for _ in range(5)]
        host = await start(try_gather(*tasks, *(meter.run(name, after(released)) for name in "abc"), limit=2))
        await turns()

        assert meter.started == ["a", "b"]
        released.set_result(None)
        assert await host == ["given"] * 5 + ["a", "b", "c"]

    async def test_the_same_coroutine_twice_takes_one_place(self):
        """It runs once, and fills both slots."""
        meter = Meter()
        coroutine = meter.run("a", turns(3))

        results = await try_gather(coroutine, meter.run("b", turns(3)), coroutine, limit=1)

        assert results == ["a", "b", "a"]
        assert meter.most == 1

    async def test_awaitables_take_places_like_coroutines(self):
        """Custom ones and lookalikes of coroutines."""
        meter = Meter()

        results = await try_gather(
            Awaitable(meter.run("a", turns(3))),
            Lookalike(meter.run("b", turns(3))),
            meter.run("c", turns(3)),
            limit=1,
        )

        assert results == ["a", "b", "c"]
        assert meter.started == ["a", "b", "c"]
        assert meter.most == 1

    async def test_each_sees_the_callers_context_whenever_it_starts(self):
        """Not that of the one whose place it took."""

        async def visit(name):
            seen = request_id.get()
            request_id.set(name)
            await turns(2)
            return seen

        request_id.set("caller")

        assert await try_gather(*map(visit, "abcd"), limit=1) == ["caller"] * 4
        assert await try_gather(*map(visit, "abcd"), limit=2) == ["caller"] * 4

    async def test_thousands_one_after_the_other_need_no_deep_stack(self):
        """Whether they return at once, in an eager first step, or later."""
        meter = Meter()

        assert await try_gather(*map(give, range(1200)), limit=1) == list(range(1200))
        assert len(await try_gather(*(meter.run(name, turns(1)) for name in range(1200)), limit=2)) == 1200
        assert meter.most == 2

    async def test_finished_children_are_let_go_while_others_wait(self):
        """What a child held lives no longer than it needs to."""
        held = []

        class Heavy:
            def __init__(self):
                held.append(1)

            def __del__(self):
                held.pop()

        async def child():
            heavy = Heavy()
            await turns(1)
            assert len(held) <= 2
            del heavy

        await try_gather(*(child() for _ in range(50)), limit=2)

        assert held == []


class TestEnds:
    async def test_a_failure_closes_those_that_have_not_started(self):
        """They never run a line, and nobody is warned of them."""
        meter = Meter()
        waiting = [meter.run("b", never := give(1)), Lookalike(inner := give(2)), Awaitable(mine := give(3))]

        with pytest.raises(Boom):
            await try_gather(after(asyncio.sleep(0), Boom()), *waiting, limit=1)

        assert meter.started == []
        assert closed(waiting[0])
        assert closed(inner)
        # What a coroutine that never ran had been given, and what a custom awaitable holds, is their maker's.
        never.close()
        mine.close()

    async def test_no_place_is_filled_after_a_failure(self):
        """Though the one that failed has left one."""
        [released] = futures(1)
        meter = Meter()
        host = await start(
            try_gather(outlast(released), fail(Boom()), third := meter.run("c", forever_too := forever()), limit=2)
        )
        assert closed(third)
        released.set_result(None)

        with pytest.raises(Boom):
            await host
        assert meter.started == []
        forever_too.close()

    async def test_a_cancellation_closes_those_that_have_not_started(self):
        """And stops the others, once each."""
        log = []
        waiting = [give(1), give(2)]
        host = await start(try_gather(noting(log, "a", forever()), *waiting, limit=1))

        host.cancel()

        with pytest.raises(asyncio.CancelledError):
            await host
        assert log == [("a", "CancelledError"), ("a", "ended")]
        assert all(map(closed, waiting))

    async def test_the_coroutine_closed_while_it_waits_closes_them_too(self):
        """Whoever drives it by hand may give up: the children are told, and those that wait never start."""
        log = []
        waiting = give(1)
        gathering = try_gather(noting(log, "a", forever()), waiting, limit=1)
        gathering.send(None)
        await turns()

        gathering.close()

        assert closed(waiting)
        await turns()
        assert log == [("a", "CancelledError"), ("a", "ended")]

    async def test_the_failure_of_a_later_one_is_as_good_as_that_of_the_first(self):
        """It started long after the call, and stops the rest all the same."""
        log = []

        with pytest.raises(Boom):
            await try_gather(
                noting(log, "a", forever()),
                turns(2),
                after(turns(2), Boom()),
                noting(log, "never", waiting := forever()),
                limit=2,
            )

        assert log == [("a", "CancelledError"), ("a", "ended")]
        waiting.close()

    async def test_a_later_one_cancelled_from_elsewhere_is_told(self):
        """It is an UnexpectedCancellation like that of the first ones."""
        children = []

        async def child():
            children.append(asyncio.current_task())
            await forever()

        host = await start(try_gather(turns(1), child(), give(1), limit=1))
        children[0].set_name("second")
        children[0].cancel()

        with refused(UnexpectedCancellation, "second was cancelled while try_gather waited for it"):
            await host

    async def test_a_task_factory_that_fails_later_is_told(self, caplog):
        """When it is the turn of a waiting coroutine, nobody's frame is there to raise in but the caller's."""
        [first, released] = futures(2)
        host = await start(try_gather(after(first), outlast(released), second := give(2), third := give(3), limit=2))
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()

        def broken(loop, coro, **kwargs):
            raise Boom

        loop.set_task_factory(broken)
        first.set_result(None)
        await turns()
        loop.set_task_factory(before)
        released.set_result(None)

        with pytest.raises(Boom):
            await host
        assert closed(second)
        assert closed(third)
        assert caplog.records == []

    @pytest.mark.asyncio(loop_factories=["eager"])  # 3.11 has none
    async def test_eager_ones_that_return_at_once_take_no_place(self):
        """They are over before they could be counted."""
        meter = Meter()
        host = asyncio.create_task(try_gather(*map(give, "ab"), meter.run("c", forever()), give("d"), limit=1))

        assert meter.started == ["c"]
        host.cancel()
        await asyncio.wait([host])

    async def test_with_a_limit_nothing_is_nothing(self):
        """No arguments, no places."""
        assert await try_gather(limit=1) == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("limit", "kind", "message"),
        [
            (0, ValueError, "limit must be at least 1, got 0"),
            (-3, ValueError, "limit must be at least 1, got -3"),
            (2.0, TypeError, "limit must be a whole number, got float 2.0"),
            (float("nan"), TypeError, "limit must be a whole number, got float nan"),
            (True, TypeError, "limit must be a whole number, got bool True"),
            ("2", TypeError, "limit must be a whole number, got str"),
            (give, TypeError, "limit must be a whole number, got the function give (call it)"),
        ],
    )
    async def test_a_wrong_limit_is_refused(self, limit, kind, message):
        """With or without arguments; nothing starts, and nothing is left unawaited."""
        coroutine, inner = give(1), give(2)

        with refused(kind, message):
            await try_gather(coroutine, Lookalike(inner), limit=limit)
        with refused(kind, message):
            await try_gather(limit=limit)

        assert closed(coroutine)
        assert closed(inner)
        assert asyncio.all_tasks() == {asyncio.current_task()}


# A model: children that a schedule drives, one step at a time.


@dataclasses.dataclass(frozen=True)
class Child:
    """What a child does when it is let go, and when it is cancelled."""

    given: bool  # as a task
    at_once: bool  # it does not wait to be let go
    outcome: str
    cleanup: str


CHILDREN = st.builds(
    Child,
    given=st.booleans(),
    at_once=st.sampled_from([False, False, False, True]),
    outcome=st.sampled_from(["return", "return", "return", "fail", "cancel"]),
    cleanup=st.sampled_from(["none", "slow", "fail", "swallow"]),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["let go", "let go", "let go", "cancel child", "cancel caller"]),
        st.integers(0, 9),  # which child
        st.integers(0, 3),  # turns of the loop until the next step
    ),
    max_size=12,
)


class Model:
    """Runs one `try_gather` by a schedule and holds it to its promises."""

    def __init__(self, children, limit):
        self.children = children
        self.limit = limit
        self.doors = futures(len(children))
        self.tasks = {}  # by number, of those that have started
        self.started = []  # own ones, in order
        self.running = set()  # own ones
        self.raised = []  # every error that a child raised
        self.cancelled_here = dict.fromkeys(range(len(children)), 0)

    async def child(self, number):
        child = self.children[number]
        self.tasks[number] = asyncio.current_task()
        if not child.given:
            self.started.append(number)
            self.running.add(number)
            assert self.limit is None or len(self.running) <= self.limit, "more ran than may"
        try:
            return await self.work(number, child)
        finally:
            self.running.discard(number)

    async def work(self, number, child):
        try:
            if not child.at_once:
                await self.doors[number]
        except asyncio.CancelledError:
            if child.cleanup == "slow":
                await turns(3)
            elif child.cleanup == "fail":
                self.fail(Bang(number))
            elif child.cleanup == "swallow":
                return number
            raise
        if child.outcome == "fail":
            self.fail(Boom(number))
        if child.outcome == "cancel":
            raise asyncio.CancelledError
        return number

    def fail(self, error):
        self.raised.append(error)
        raise error

    async def run(self, steps, caplog):
        coroutines = [self.child(number) for number in range(len(self.children))]
        aws = [
            asyncio.create_task(coroutine) if child.given else coroutine
            for child, coroutine in zip(self.children, coroutines, strict=True)
        ]
        self.host = asyncio.create_task(try_gather(*aws, limit=self.limit))
        # One that had not begun when it was cancelled has no task of its own in the table.
        self.tasks |= {number: aw for number, aw in enumerate(aws) if isinstance(aw, asyncio.Task)}
        self.cancels = 0
        # Let the call begin, though not yet its children. (Before that, it owns nothing.)
        await turns(1)
        for what, number, pause in steps:
            self.step(what, number % len(self.children))
            await turns(pause)
        for door in self.doors:
            if not door.done():
                door.set_result(None)
            await turns(1)
        await asyncio.wait([self.host])
        self.check(caplog)
        assert all(map(closed, coroutines)), "something was left"

    def step(self, what, number):
        if what == "cancel caller":
            self.cancels += self.host.cancel()
        elif what == "cancel child":
            if number in self.tasks:
                self.cancelled_here[number] += self.tasks[number].cancel()
        elif not self.doors[number].done():
            self.doors[number].set_result(None)

    def check(self, caplog):
        assert self.running == set()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert self.started == sorted(self.started)
        for number, task in self.tasks.items():
            assert task.cancelling() - self.cancelled_here[number] <= 1, "a child was cancelled twice"
        assert self.host.cancelling() == self.cancels

        logged = [record.exc_info[1] for record in caplog.records]
        caplog.clear()
        if self.host.cancelled():
            assert self.cancels, "the caller was not cancelled by anybody"
            outcome = []
        elif error := self.host.exception():
            assert not self.cancels, "the cancellation of the caller was swallowed"
            outcome = [error]
        else:
            assert not self.cancels
            assert self.host.result() == list(range(len(self.children)))
            outcome = []
        # Each error is raised or logged, and once.
        seen = [error for error in logged + outcome if not isinstance(error, UnexpectedCancellation)]
        assert sorted(map(id, seen)) == sorted(map(id, self.raised))
        # Nobody else's cancellation is made up.
        unexpected = [error for error in logged + outcome if isinstance(error, UnexpectedCancellation)]
        may = any(child.outcome == "cancel" for child in self.children) or any(self.cancelled_here.values())
        assert len(unexpected) <= may


@hypothesis.settings(
    max_examples=150, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)  # caplog is cleared by the model after each run
@hypothesis.given(
    children=st.lists(CHILDREN, min_size=1, max_size=7),
    limit=st.none() | st.integers(1, 4),
    steps=STEPS,
)
async def test_whatever_happens_nothing_is_lost_and_nothing_left(caplog, children, limit, steps):
    """Random finishes, failures and cancellations at random moments: never more than the limit at a time, results in
    order, each error raised or logged once, each child cancelled once, nothing running and nothing unawaited."""
    await Model(children, limit).run(steps, caplog)
