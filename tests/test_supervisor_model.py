"""`Supervisor` against a model of its promises, step by step."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import NamedTuple

import hypothesis.strategies as st
from hypothesis import assume, given, settings
from loops import each_virtual_loop
from tools import Bang, Boom

from async_plus import (
    AttemptFailed,
    AttemptReturned,
    GaveUp,
    LateFailure,
    SiblingsRestarted,
    Supervisor,
    UnexpectedCancellation,
    ready,
    supervised,
)
from async_plus.testing import record_events

strategies = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])


# Children follow a plan; the model says who starts and is told to stop when, and what is reported.

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


@each_virtual_loop
@settings(max_examples=200)
@given(strategy=strategies, plans=trees, stop=st.integers(0, 200).map(lambda seconds: seconds + 1 / 2))
def test_it_does_what_the_model_says(loop_factory, strategy, plans, stop):
    """Starts, stops, delays, readiness, limits, reports and the end, to the fraction of a second."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        log, told, end, ended = runner.run(reality(strategy, stop, plans))

    model = Model(strategy, stop)
    assert (log, told, end, ended) == model.run(plans)


# In whatever happens. Times are quarters, so that many things come together.
