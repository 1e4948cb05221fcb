"""`Supervisor` in whatever happens, at random: the promises that hold all the same."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis import given, settings
from loops import each_virtual_loop
from tools import Bang, Boom

from async_plus import (
    AttemptFailed,
    AttemptHung,
    AttemptReturned,
    AttemptStarted,
    GaveUp,
    LateFailure,
    Supervisor,
    UnexpectedCancellation,
    heartbeat,
    ready,
    subscribe,
    supervised,
)

strategies = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])


# Times are quarters, so that many things come together.

quarters = st.integers(0, 40).map(lambda number: number / 4)
outcomes = st.sampled_from(["fail", "fail", "fail", "fatal", "return", "cancel", "hang"])
cleanups = st.sampled_from(["at once", "slow", "slow", "raise", "raise late", "swallow", "ready"])


@dataclass(frozen=True)
class Wild:
    """A child of many talents. When its steps are used up, it runs until it is stopped."""

    # How long it runs, what it does then, and what when it is cancelled.
    steps: list[tuple[float, str, str]]
    ready_after: float | None
    heartbeat: float | None
    options: dict[str, object]
    # Others that it starts: below it in a supervisor of its own, or as a sibling.
    strategy: str
    below: list[Wild]
    beside: list[Wild]


wild_options = st.fixed_dictionaries(
    {
        "delays": st.lists(st.integers(0, 8), min_size=1, max_size=3),
        "reset_after": st.none() | st.integers(0, 4),
        "max_restarts": st.sampled_from([None, None, 1, 3]),
        "restart": st.sampled_from(["on_error"] * 6 + ["always", "always", "never"]),
    }
)


def wilds(below):
    return st.builds(
        Wild,
        steps=st.lists(st.tuples(quarters, outcomes, cleanups), max_size=4),
        ready_after=st.none() | quarters,
        heartbeat=st.none() | st.sampled_from([8, 40]),
        options=wild_options,
        strategy=strategies,
        below=below,
        beside=below,
    )


nothing = st.just([])
wild = wilds(nothing | nothing | st.lists(wilds(nothing), max_size=2))
orders = st.lists(
    st.tuples(
        st.integers(0, 120).map(lambda number: number / 4),
        st.sampled_from(["restart", "restart", "stop", "cancel", "start", "give up waiting"]),
        st.integers(0, 20),
    ),
    max_size=8,
)
bodies = st.sampled_from(["sleep", "sleep", "wait", "raise"])
HORIZON = 400


@dataclass(eq=False)
class Life:
    """An attempt that runs."""

    name: str
    supervisor: Supervisor
    number: int
    task: asyncio.Task[None] | None
    # Cancellations by strangers, and all that came.
    by_others: int = 0
    cancelled: int = 0
    # Told by its supervisor, on its own account.
    is_told: bool = False
    # Somebody asked for its stop or restart, which may come at any time.
    is_ordered: bool = False


class World:
    """Runs what was made up, and looks at each moment whether the promises are kept."""

    def __init__(self, seed):
        self.loop = asyncio.get_running_loop()
        self.begin = self.loop.time()
        self.lives = {}
        self.steps = {}
        self.raised = []
        self.events = []
        self.orders = []
        self.supervisors = []
        # Whose start() is waited for: if that is cancelled, it is stopped out of turn.
        self.starting = set()
        self.ordered_supervisors = set()
        self.handles = {}
        self.broken = []
        self.spare = seed

    def check(self, kept, what):
        # Collected, since it may come up within a child, whose failure would only be restarted.
        if not kept:
            self.broken.append((self.loop.time() - self.begin, what))

    async def start(self, sup, name, plan):
        self.starting.add(name)
        self.handles[name] = child = await sup.start(self.service(sup, name, plan))
        self.starting.discard(name)
        return child

    def service(self, sup, name, plan):
        # The faults end, however often its supervisor is started again.
        steps = self.steps.setdefault(name, iter(plan.steps))

        @supervised(
            **plan.options,
            name=name,
            ready=plan.ready_after is not None,
            # One that starts others gives none in the meantime, and would hang for ever.
            heartbeat=None if plan.below or plan.beside else plan.heartbeat,
            on=(Boom, UnexpectedCancellation),
        )
        async def live():
            [number] = [child._number for child in sup.children if child.name == name]
            life = Life(name, sup, number, asyncio.current_task())
            self.check(name not in self.lives, f"{name} has a twin")
            self.lives[name] = life
            try:
                await self.live(life, plan, next(steps, (math.inf, "hang", "slow")))
            except asyncio.CancelledError:
                raise
            except BaseException as exc:
                self.raised.append((name, exc))
                raise
            finally:
                del self.lives[name]

        return live

    async def live(self, life, plan, step):
        runs, then, cleanup = step
        try:
            for number, other in enumerate(plan.beside):
                name = f"{life.name}+{number}"
                if name not in self.handles and name not in self.starting:
                    await self.start(life.supervisor, name, other)
            if plan.below:
                name = f"{life.name}/"
                async with Supervisor(name, strategy=plan.strategy, warn_after=10_000) as sup:
                    self.supervisors.append(sup)
                    for number, other in enumerate(plan.below):
                        await self.start(sup, f"{name}{number}", other)
                    await self.work(plan, runs, then)
            else:
                await self.work(plan, runs, then)
        except asyncio.CancelledError:
            if not life.task.cancelling():
                # By itself.
                raise
            life.cancelled += 1
            self.told(life)
            await self.clean_up(life, cleanup)
        self.check(life.cancelled <= life.by_others + 1, f"{life.name} was cancelled {life.cancelled} times")

    async def work(self, plan, runs, then):
        if plan.ready_after is not None and plan.ready_after <= runs:
            await self.pass_time(plan, plan.ready_after)
            ready()
            runs -= plan.ready_after
        await self.pass_time(plan, runs)
        if then == "hang":
            # That would be for ever if it has no heartbeat to give.
            await asyncio.sleep(20)
            then = "fail"
        if then in ("fail", "fatal"):
            raise Boom if then == "fail" else Bang
        if then == "cancel":
            raise asyncio.CancelledError

    async def pass_time(self, plan, seconds):
        if plan.heartbeat is None:
            await (self.loop.create_future() if seconds == math.inf else asyncio.sleep(seconds))
        while seconds > 0 and plan.heartbeat is not None:
            heartbeat()
            await asyncio.sleep(min(plan.heartbeat / 2, seconds))
            seconds -= plan.heartbeat / 2

    def told(self, life):
        """Note who was told to stop, and check that it was its turn."""
        siblings = [other for other in self.lives.values() if other.supervisor is life.supervisor and other is not life]
        hung = {event.service for _, event in self.events if isinstance(event, AttemptHung)}
        if life.by_others or life.is_ordered or life.name in self.starting or life.name in hung:
            return
        life.is_told = True
        self.check(not any(other.is_told for other in siblings), f"{life.name} was not told alone")
        later = [other.name for other in siblings if other.number > life.number]
        self.check(not later, f"{life.name} was told before {later}")

    async def clean_up(self, life, how):
        seconds = {"slow": 1.25, "raise late": 1, "ready": 0.75}.get(how, 0)
        if how == "ready":
            ready()
        ends = self.loop.time() + seconds
        while self.loop.time() < ends:
            try:
                await asyncio.sleep(ends - self.loop.time())
            except asyncio.CancelledError:
                life.cancelled += 1
        if how.startswith("raise"):
            raise Boom
        if how != "swallow":
            raise asyncio.CancelledError

    # What comes from outside.

    def give(self, sup, what, pick):
        if what == "cancel":
            if self.lives:
                life = sorted(self.lives.values(), key=lambda life: life.name)[pick % len(self.lives)]
                life.by_others += 1
                life.task.cancel()
        elif what == "start":
            if self.spare:
                self.orders.append(asyncio.create_task(self.start(sup, f"spare {len(self.spare)}", self.spare.pop())))
        elif what == "give up waiting":
            if self.orders:
                self.orders[pick % len(self.orders)].cancel()
        else:
            names = sorted(self.handles)
            if names:
                self.orders.append(asyncio.create_task(self.order(names[pick % len(names)], what)))

    async def order(self, name, what):
        child = self.handles[name]
        self.ordered_supervisors.add(name.rpartition("/")[0])
        if name in self.lives:
            self.lives[name].is_ordered = True
        await getattr(child, what)()

    def note(self, event):
        self.events.append((self.loop.time() - self.begin, event))
        if isinstance(event, AttemptStarted) and event.attempt > 1:
            self.check_order(event.service)

    def check_order(self, name):
        """A group is started again in order, each when the one before is ready."""
        for sup in self.supervisors:
            names = [child.name for child in sup.children]
            if name in names and sup._strategy != "one_for_one":
                before = sup.children[: names.index(name)]
                # A first start, or the restart of one that was done, need not wait: see its caller.
                if sup.children[names.index(name)]._was_up:
                    states = [child.state for child in before]
                    self.check({*states} <= {"running", "stopping"}, f"{name} started after {states}")

    async def block(self, strategy, plans, body, orders):
        async with Supervisor("top", strategy=strategy, warn_after=10_000) as sup:
            self.supervisors.append(sup)
            for when, what, pick in orders:
                self.loop.call_at(self.begin + when, self.give, sup, what, pick)
            for number, plan in enumerate(plans):
                await self.start(sup, str(number), plan)
            if body == "raise":
                await asyncio.sleep(13)
                raise KeyError
            if body == "wait":
                try:
                    async with asyncio.timeout_at(self.begin + HORIZON) as limit:
                        await sup.wait()
                except TimeoutError:
                    # A Hung is one, too.
                    if not limit.expired():
                        raise
            else:
                await asyncio.sleep(self.begin + HORIZON - self.loop.time())
            if sup._children.failure is None:
                states = {child.name: child.state for sup in self.supervisors for child in sup.children}
                self.check({*states.values()} <= {"running"}, f"not all run: {states}")
                running = {name for name in states if name in self.lives}
                self.check(running == {*states}, f"said to run: {states}, but only {running} do")

    async def run(self, strategy, plans, body, orders, stop):
        loop = self.loop
        unsubscribe = subscribe(self.note)
        host = asyncio.create_task(self.block(strategy, plans, body, orders))
        timers = [loop.call_at(self.begin + when, host.cancel) for when in stop]
        try:
            await asyncio.wait([host])
            cancelled = sum(timer.when() <= loop.time() and not timer.cancelled() for timer in timers)
            for timer in timers:
                timer.cancel()
            self.check(host.cancelling() == cancelled, f"cancelling() is {host.cancelling()}, not {cancelled}")
            end = asyncio.CancelledError() if host.cancelled() else host.exception()
            # Orders may come after the end as well.
            await asyncio.sleep(max(0, self.begin + 31 - loop.time()))
            done = await asyncio.gather(*self.orders, return_exceptions=True)
        finally:
            unsubscribe()
        self.check(not self.lives, f"still alive: {[*self.lives]}")
        left = asyncio.all_tasks() - {asyncio.current_task()}
        self.check(not left, f"tasks left: {left}")
        self.check(not any(sup.children for sup in self.supervisors), "children left")
        self.check_reports(end, done)
        if not self.ordered_supervisors and strategy == "one_for_one":
            self.check_delays()
        return self.broken

    def check_reports(self, end, done):
        """Each failure is reported once; the one that ends a supervision is raised, or reported as well."""
        reports = [event for _, event in self.events if isinstance(event, (AttemptFailed, GaveUp)) and event.exception]
        for name, exc in self.raised:
            told = [
                event
                for event in reports
                if event.service == name and (event.exception is exc or event.exception.__cause__ is exc)
            ]
            self.check(len(told) == 1, f"{exc!r} of {name} was reported {len(told)} times")
        raised = [end, *done, *(exc for _, exc in self.raised)]
        late = [event.exception for _, event in self.events if isinstance(event, LateFailure)]
        for event in reports:
            if isinstance(event, GaveUp):
                count = sum(exc is event.exception for exc in late)
                if not any(exc is event.exception for exc in raised if exc is not None) or count > 1:
                    self.check(count == 1, f"{event.exception!r} was neither raised nor reported: {count}")

    def check_delays(self):
        """Who failed starts again after its delay, to the moment."""
        due = {}
        for when, event in self.events:
            if isinstance(event, (AttemptFailed, AttemptReturned)) and event.delay is not None:
                due[event.service] = when + event.delay
            elif isinstance(event, AttemptStarted) and "/" not in event.service:
                expected = due.pop(event.service, when)
                self.check(when == expected, f"{event.service} started at {when}, not {expected}")


@each_virtual_loop
@settings(max_examples=100)
@given(
    strategy=strategies,
    plans=st.lists(wild, min_size=1, max_size=5),
    spare=st.lists(wilds(nothing), max_size=2),
    body=bodies,
    orders=orders,
    stop=st.lists(quarters, max_size=2) | st.just([]),
)
def test_the_promises_are_kept_whatever_happens(loop_factory, strategy, plans, spare, body, orders, stop):
    """Failures, hangs, cancellations, orders and stops at random moments, in trees, with awkward cleanups."""

    async def run():
        return await World(list(spare)).run(strategy, plans, body, orders, stop)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        broken = runner.run(run())

    assert not broken, broken
