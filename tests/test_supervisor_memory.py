"""`Supervisor` for months: nothing of a dead attempt or a lost child stays alive, with the collector switched off."""

from __future__ import annotations

import asyncio
import functools
import weakref

import pytest
from memory import (
    ENDS,
    SHARED,
    Local,
    assert_flat,
    assert_grew_nothing,
    census,
    each_end,
    raise_an_error,
    raise_one_and_the_same,
    run_a_hundred_thousand_times,
)
from tools import forever, turns

from async_plus import Supervisor, supervised

pytestmark = pytest.mark.usefixtures("formatted_log", "no_garbage_collector")

# On one loop, for the time it takes.
once = pytest.mark.asyncio(loop_factories=["default"])


async def as_child(service):
    """Run *service* as a child of a supervisor."""
    async with Supervisor("shop") as sup:
        await sup.start(service)
        await sup.wait()


async def beside_another(service, strategy="one_for_one"):
    """Run *service* as the elder of two children."""
    async with Supervisor("shop", strategy=strategy) as sup:
        child = await sup.start(service)
        await sup.start(forever)
        await child.wait()


@once
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all"])
async def test_ten_thousand_restarts_leave_memory_flat(strategy):
    """Of a child, and of the siblings that are restarted with it."""
    await assert_flat(functools.partial(beside_another, strategy=strategy), raise_an_error, 10_000)


@each_end
@pytest.mark.parametrize("steps", [0, 1])
async def test_three_hundred_restarts_leave_memory_flat_on_each_loop(end, steps):
    """However they end. Eager attempts that fail in their first step are held by a frame of create_task (gh-128552)."""
    await assert_flat(beside_another, end, 300, steps)


@once
@pytest.mark.virtual_time
@pytest.mark.time_limit(300)
async def test_a_child_that_fails_a_hundred_thousand_times_keeps_its_delays_and_no_memory():
    """Each hundredth run is stable: the delay after it is the first one again. Weeks go by."""
    await run_a_hundred_thousand_times(as_child)


@once
@pytest.mark.time_limit(300)
async def test_a_hundred_thousand_short_children_leave_memory_flat():
    """They come and go, some with an error that nobody but the supervisor hears of."""
    counts = []

    @supervised(ready=True, heartbeat=60)
    async def job():
        local = Local()
        await asyncio.sleep(0)
        del local

    async with Supervisor("shop") as sup:
        await sup.start(forever)
        for number in range(100_000):
            child = await sup.start(job)
            if number in (1000, 99_999):
                del child
                await turns(3)
                counts.append(census())
        assert len(sup.children) == 1
    assert_grew_nothing(*counts)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("steps", [0, 1])
async def test_during_the_delay_nothing_of_the_last_attempt_is_alive(end, steps):
    """Neither a local of it, nor what it returned, nor its task; of what it raised only the error itself is kept."""
    dead = []

    def keep_track(thing):
        dead.append(weakref.ref(thing))
        return thing

    @supervised(delays=[600], restart="always")
    async def service():
        local = keep_track(Local())
        keep_track(asyncio.current_task())
        keep_track(asyncio.current_task().get_coro())
        for _ in range(steps):
            await asyncio.sleep(0)
        return keep_track(end()) and local

    async with Supervisor("shop") as sup:
        child = await sup.start(service)
        await turns()
        assert child.state == "backoff"
        assert [thing() for thing in dead if thing() is not None] == []
        if end is raise_one_and_the_same:
            assert SHARED.__traceback__ is None
