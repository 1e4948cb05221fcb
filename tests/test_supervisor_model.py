"""`Supervisor` against a model of its promises, step by step; and what holds in whatever happens, at random."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given, settings
from loops import factories
from tools import Bang, Boom

from async_plus import (
    AttemptFailed,
    AttemptHung,
    AttemptReturned,
    AttemptStarted,
    GaveUp,
    LateFailure,
    SiblingsRestarted,
    Supervisor,
    UnexpectedCancellation,
    heartbeat,
    ready,
    subscribe,
    supervised,
)
from async_plus.testing import record_events

on_each_loop = pytest.mark.parametrize("loop_factory", factories(virtual=True).values(), ids=factories(virtual=True))
strategies = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])


# Exactly. Children follow a plan; the model says who starts and is told to stop when, and what is reported.

seconds = st.integers(0, 12)


class Run(NamedTuple):
    """One attempt: how long it runs, then what it does."""

    runs: float
    # "fail", "fatal" (an error that calls for no restart), "cancel" (by somebody else) or "return".
    then: str


@dataclass(frozen=True)
class Plan:
    """A child. When its runs are used up, it runs until it is stopped."""

    runs: list[Run]
    ready_after: int | None
    cleanup: int
    options: dict[str, object]


runs = st.builds(Run, runs=seconds, then=st.sampled_from(["fail"] * 8 + ["return", "cancel", "fatal"]))
options = st.fixed_dictionaries(
    {
        "delays": st.lists(seconds, min_size=1, max_size=3),
        "reset_after": st.none() | seconds,
        "max_restarts": st.none() | st.integers(1, 3),
        "restart": st.sampled_from(["on_error", "on_error", "on_error", "always", "never"]),
    }
)
plans = st.builds(
    Plan, runs=st.lists(runs, max_size=5), ready_after=st.none() | seconds, cleanup=st.integers(0, 4), options=options
)


def apart(plans):
    """Add to each run a fraction of a second of its own, a power of two: no two things end at the same time."""
    serial = 1
    for plan in plans:
        for number, run in enumerate(plan.runs):
            serial += 1
            plan.runs[number] = run._replace(runs=run.runs + 2**-serial)
    return plans


trees = st.lists(plans, min_size=2, max_size=4).map(apart)


@dataclass(eq=False)
class Kid:
    """A child, as the model sees it."""

    number: int
    plan: Plan
    # "waits", "runs" or "stops".
    state: str = "waits"
    due: float = -math.inf
    is_first: bool = True
    is_up: bool = False
    # For a sibling's sake, when its turn comes; for good.
    to_stop: bool = False
    is_final: bool = False
    attempts: int = 0
    started: float = 0.0
    ends: float = math.inf
    # Restarts in a row.
    restarts: int = 0
    place: int = 0

    @property
    def gets_ready(self):
        return self.started + self.plan.ready_after if self.state == "runs" and not self.is_up else math.inf

    @property
    def next(self):
        """When something comes of it by itself."""
        return self.due if self.state == "waits" else min(self.ends, self.gets_ready)


@dataclass
class Model:
    """What should happen: who starts and is told to stop when, and what is reported."""

    strategy: str
    stop: float
    now: float = 0.0
    kids: list[Kid] = field(default_factory=list)
    log: list[tuple[float, str, int]] = field(default_factory=list)
    told: list[tuple[object, ...]] = field(default_factory=list)
    # What the block waits for in start().
    starting: Kid | None = None
    is_closing: bool = False
    is_cancelled: bool = False
    failure: tuple[int, str] | None = None

    def run(self, plans):
        arriving = [Kid(number, plan) for number, plan in enumerate(plans)]
        while True:
            # The block starts one after another, then waits.
            if self.starting is not None and (self.starting.is_up or self.starting not in self.kids):
                self.starting = None
            if self.is_cancelled and self.starting is None:
                self.is_closing = True
            if self.is_closing or self.is_cancelled:
                arriving = []
            if arriving and self.starting is None:
                self.starting = arriving.pop(0)
                self.kids.append(self.starting)
            self.settle()
            happening = [kid for kid in self.kids if kid.state != "waits" and kid.next <= self.now]
            if self.starting is not None and (self.starting.is_up or self.starting not in self.kids):
                continue
            if happening:
                self.happens(happening[0])
                # Before the block has its turn.
                self.settle()
            elif not self.kids and not arriving:
                return self.result()
            else:
                self.now = min(time for time in [self.stop, *(kid.next for kid in self.kids)] if time > self.now)
                if self.now == self.stop:
                    self.cancel()

    def result(self):
        end = "done" if self.failure is None else self.failure[1]
        if self.is_cancelled:
            end = "cancelled"
            if self.failure is not None:
                self.told.append(("late", *self.failure))
        return self.log, self.told, end, self.now

    def cancel(self):
        self.is_cancelled = True
        if self.starting is None:
            return
        # It stops what it was starting.
        self.starting.is_final = True
        if self.starting.state == "runs":
            self.tell(self.starting)
        elif self.starting.state == "waits":
            self.kids.remove(self.starting)
            self.settle()

    def happens(self, kid):
        if kid.ends > self.now:
            kid.is_up = True
            return
        was_told, kid.state, kid.is_up, kid.ends, kid.to_stop = kid.state == "stops", "waits", False, math.inf, False
        if not was_told:
            self.ended(kid, kid.plan.runs[kid.attempts - 1].then)
        elif kid.is_final:
            self.kids.remove(kid)

    def ended(self, kid, kind):
        policy = kid.plan.options
        is_error = kind != "return"
        if kind == "cancel" and self.is_cancelled:
            # All tasks may have been cancelled, as at the end of the program: that is no failure.
            if policy["restart"] == "never":
                self.kids.remove(kid)
            else:
                kid.due = self.now + max(1, self.delay(kid))
            return
        if self.is_closing:
            self.kids.remove(kid)
            if is_error:
                self.told.append(("failed", kid.number, kind, None, None))
            return
        may_restart = policy["restart"] in (["always", "on_error"] if is_error else ["always"]) and kind != "fatal"
        if may_restart:
            stable = max(60, *policy["delays"]) if policy["reset_after"] is None else policy["reset_after"]
            if self.now - kid.started > stable:
                kid.place = kid.restarts = 0
            if kid.restarts != policy["max_restarts"]:
                delay = self.delay(kid)
                kid.due = self.now + delay
                kid.restarts += 1
                self.told.append(("failed" if is_error else "returned", kid.number, kind, kid.restarts, delay))
                self.take_along(kid)
                return
        self.kids.remove(kid)
        if is_error or may_restart:
            self.told.append(("gave up", kid.number, kind, kid.restarts))
        if is_error:
            self.is_closing, self.failure = True, (kid.number, kind)

    def delay(self, kid):
        delays = kid.plan.options["delays"]
        kid.place += 1
        return delays[min(kid.place, len(delays)) - 1]

    def take_along(self, kid):
        affected = [
            other
            for other in self.kids
            if other.state == "runs"
            and (self.strategy == "one_for_all" or (self.strategy == "rest_for_one" and other.number > kid.number))
        ]
        for other in affected:
            other.to_stop, other.due = True, kid.due
        if affected:
            self.told.append(("siblings", kid.number, [other.number for other in affected]))

    def settle(self):
        if self.is_closing:
            while self.kids and not any(kid.state == "stops" for kid in self.kids):
                if self.kids[-1].state == "waits":
                    self.kids.pop()
                else:
                    self.tell(self.kids[-1])
        elif self.strategy == "one_for_one":
            for kid in self.kids:
                self.settle_group([kid])
        else:
            self.settle_group(self.kids)

    def settle_group(self, group):
        if any(kid.state == "stops" for kid in group):
            return
        for kid in reversed(group):
            if kid.to_stop:
                self.tell(kid)
                return
        others_come_first = False
        for kid in group:
            if kid.state == "waits" and (kid.is_first or not others_come_first):
                waiting = group if self.strategy == "one_for_all" else [kid]
                if max(other.due for other in waiting if other.state == "waits") > self.now:
                    return
                self.start(kid)
            others_come_first = others_come_first or not kid.is_up

    def start(self, kid):
        run = kid.plan.runs[kid.attempts] if kid.attempts < len(kid.plan.runs) else None
        kid.ends = math.inf if run is None else self.now + run.runs
        kid.attempts += 1
        kid.state, kid.started, kid.is_first, kid.is_up = "runs", self.now, False, kid.plan.ready_after is None
        self.log.append((self.now, "starts", kid.number))

    def tell(self, kid):
        kid.state, kid.is_up, kid.to_stop, kid.ends = "stops", False, False, self.now + kid.plan.cleanup
        # In the moment in which it started: whether it took a step by then is of no interest.
        assume(kid.started < self.now)
        self.log.append((self.now, "is told", kid.number))


KINDS = {Boom: "fail", Bang: "fatal", UnexpectedCancellation: "cancel", type(None): "return"}


async def reality(strategy, stop, plans):
    """Do the same with a real supervisor."""
    loop = asyncio.get_running_loop()
    begin, log = loop.time(), []

    def note(what, number):
        log.append((loop.time() - begin, what, number))

    def service(number, plan):
        left = iter(plan.runs)

        @supervised(
            **plan.options,
            name=str(number),
            ready=plan.ready_after is not None,
            on=(Boom, UnexpectedCancellation),
        )
        async def follow():
            started = loop.time()
            note("starts", number)
            run = next(left, None) or Run(math.inf, "fail")
            try:
                if plan.ready_after is not None and plan.ready_after < run.runs:
                    await until(started + plan.ready_after)
                    ready()
                await until(started + run.runs)
            except asyncio.CancelledError:
                note("is told", number)
                await until(loop.time() + plan.cleanup)
                raise
            if run.then != "return":
                raise {"fail": Boom, "fatal": Bang, "cancel": asyncio.CancelledError}[run.then]

        return follow

    async def until(when):
        if when == math.inf:
            await loop.create_future()
        elif when > loop.time():
            await asyncio.sleep(when - loop.time())

    async def block():
        async with Supervisor("shop", strategy=strategy, warn_after=1000) as sup:
            for number, plan in enumerate(plans):
                await sup.start(service(number, plan))
            await sup.wait()

    with record_events() as events:
        host = asyncio.create_task(block())
        timer = loop.call_at(begin + stop, host.cancel)
        [end] = await asyncio.gather(host, return_exceptions=True)
        timer.cancel()

    told = []
    for event in events:
        match event:
            case AttemptFailed(service=name, exception=exc, restart=restart, delay=delay):
                told.append(("failed", int(name), KINDS[type(exc)], restart, delay))
            case AttemptReturned(service=name, restart=restart, delay=delay):
                told.append(("returned", int(name), "return", restart, delay))
            case GaveUp(service=name, exception=exc, restarts=restarts):
                told.append(("gave up", int(name), KINDS[type(exc)], restarts))
            case SiblingsRestarted(child=name, siblings=names):
                told.append(("siblings", int(name), [int(name) for name in names]))
            case LateFailure(task=name, exception=exc):
                told.append(("late", int(name), KINDS[type(exc)]))
    end = "cancelled" if isinstance(end, asyncio.CancelledError) else "done" if end is None else KINDS[type(end)]
    return log, told, end, loop.time() - begin


@on_each_loop
@settings(max_examples=200)
@given(strategy=strategies, plans=trees, stop=st.integers(0, 200).map(lambda seconds: seconds + 1 / 2))
def test_it_does_what_the_model_says(loop_factory, strategy, plans, stop):
    """Starts, stops, delays, readiness, limits, reports and the end, to the fraction of a second."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        log, told, end, ended = runner.run(reality(strategy, stop, plans))

    model = Model(strategy, stop)
    assert (log, told, end, ended) == model.run(plans)


# In whatever happens. Times are quarters, so that many things come together.

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
        siblings = [
            other for other in self.lives.values() if other.supervisor is life.supervisor and other is not life
        ]
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


@on_each_loop
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
