"""`@supervised` against a model of a dozen lines: random runs, outcomes and options, compared step by step."""

from __future__ import annotations

import asyncio
import math
from typing import NamedTuple

import hypothesis
import hypothesis.strategies as st
import pytest
from services import in_cleanup, plainly
from tools import Bang, Boom

from async_plus import AttemptFailed, AttemptReturned, AttemptStarted, GaveUp, Stopped, supervised
from async_plus.events.event import count_of
from async_plus.testing import record_events

# Whole seconds and quarters: floats that add up exactly on the virtual clock. A stop comes between two of them.
seconds = st.integers(0, 500).map(lambda number: number / 4)
stops = st.integers(0, 4000).map(lambda number: number / 4 + 1 / 8)


class Step(NamedTuple):
    """One attempt: how long it runs, then what it does."""

    runs: float
    # "return", "fatal" (an error that calls for no restart), "cancel" (by somebody else), "fail", or the delay that the
    # predicate asks for.
    then: str | float


class Options(NamedTuple):
    delays: list[float]
    reset_after: float | None
    max_restarts: int | None
    restart: str


steps = st.builds(Step, runs=seconds, then=st.sampled_from(["fail", "fail", "return", "cancel", "fatal"]) | seconds)
options = st.builds(
    Options,
    delays=st.lists(seconds, min_size=1, max_size=4),
    reset_after=st.none() | seconds,
    max_restarts=st.none() | st.integers(0, 4),
    restart=st.sampled_from(["on_error", "on_error", "always", "never"]),
)


def model(script, options, stop):
    """Return when each attempt starts, what is told of it, and how and when it all ends."""
    now, place, restarts, last = 0.0, 0, 0, None
    started, told = [], []
    stable = max(60, *options.delays) if options.reset_after is None else options.reset_after
    for step in script:
        started.append(now)
        if now < stop < now + step.runs:
            told.append(("stopped", len(started)))
            return started, told, "cancelled", stop
        now += step.runs
        if step.then == "fatal" or (step.then == "return" and options.restart != "always"):
            return started, told, step.then, now
        if options.restart == "never":
            return started, told, step.then, now
        if step.runs > stable:
            place, restarts, last = 0, 0, None
        kind = "fail" if isinstance(step.then, float) else step.then
        if restarts == options.max_restarts:
            told.append(("gave up", restarts, step.runs))
            return started, told, step.then, now
        restarts += 1
        delay = options.delays[min(place, len(options.delays) - 1)]
        place += 1
        if isinstance(step.then, float):
            delay = step.then
        told.append((kind, restarts, step.runs, delay, kind == last))
        last = None if kind == "return" else kind
        if now < stop < now + delay:
            told.append(("stopped", len(started)))
            return started, told, "cancelled", stop
        now += delay
    raise AssertionError("the script has an end")


class Delayed(Boom):
    def __init__(self, delay=True):
        self.delay = delay


async def reality(script, options, stop, hosting):
    """Do the same with a real supervision."""
    loop = asyncio.get_running_loop()
    begin, started, left = loop.time(), [], iter(script)

    @supervised(**options._asdict(), on=lambda exc: getattr(exc, "delay", not isinstance(exc, Bang)))
    async def service():
        step = next(left)
        started.append(loop.time() - begin)
        if step.runs:
            await asyncio.sleep(step.runs)
        if step.then == "return":
            return "return"
        raise {"fatal": Bang, "fail": Delayed, "cancel": asyncio.CancelledError}.get(step.then) or Delayed(step.then)

    with record_events() as events:
        host = asyncio.create_task(hosting(service))
        timer = loop.call_at(begin + stop, host.cancel) if stop < math.inf else None
        [end] = await asyncio.gather(host, return_exceptions=True)
        if timer is not None:
            timer.cancel()

    told = []
    for event in events:
        match event:
            case AttemptFailed(exception=exc, restart=restart, ran_for=ran_for, delay=delay, repeated=repeated):
                kind = "fail" if isinstance(exc, Delayed) else "cancel"
                told.append((kind, restart, ran_for, delay, repeated))
            case AttemptReturned(restart=restart, ran_for=ran_for, delay=delay):
                told.append(("return", restart, ran_for, delay, False))
            case GaveUp(restarts=restarts, ran_for=ran_for):
                told.append(("gave up", restarts, ran_for))
            case Stopped(attempt=attempt):
                told.append(("stopped", attempt))
            case AttemptStarted():
                pass
    # One start is told for each, numbered from 1.
    numbers = [event.attempt for event in events if isinstance(event, AttemptStarted)]
    assert numbers == list(range(1, len(started) + 1))
    note = getattr(end, "__notes__", [])
    assert note == [f"gave up on {service.__qualname__} after {count_of(options.max_restarts, 'restart')}"] * (
        isinstance(end, Exception) and bool(told) and told[-1][0] == "gave up"
    )
    return started, told, end, loop.time() - begin


def name(end):
    """Name how a supervision ended, in the words of the model."""
    if isinstance(end, Delayed):
        return "fail" if end.delay is True else end.delay
    names = {"Bang": "fatal", "UnexpectedCancellation": "cancel", "CancelledError": "cancelled"}
    return names.get(type(end).__name__, end)


@pytest.mark.virtual_time
@hypothesis.settings(max_examples=60, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(
    script=st.lists(steps, max_size=12),
    options=options,
    stop=st.just(math.inf) | stops,
    hosting=st.sampled_from([plainly, in_cleanup]),
)
async def test_it_does_what_the_model_says(script, options, stop, hosting):
    """Delays, stable runs, limits, restart modes, the numbers of the predicate and a stop, in every combination."""
    script = [*script, Step(1.0, "fatal")]

    started, told, end, ended = await reality(script, options, stop, hosting)

    assert (started, told, name(end), ended) == model(script, options, stop)
