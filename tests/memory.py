"""What the tests of months of supervision share: attempts that end in every way, and counts of what is alive."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import logging

import pytest
from tools import Boom

from async_plus import supervised


class Local:
    """Something an attempt has in a local variable."""


class Formatting(logging.Handler):
    """It formats each record and forgets it, but for the last lines."""

    def __init__(self):
        super().__init__()
        self.lines = collections.deque(maxlen=50)

    def emit(self, record):
        self.lines += self.format(record).splitlines()


SHARED = Boom()


def raise_an_error():
    raise Boom


def raise_a_chain():
    try:
        raise_an_error()
    except Boom as exc:
        raise Boom from exc


def raise_a_group():
    raise ExceptionGroup("several", [caught(raise_an_error), ExceptionGroup("inner", [caught(raise_a_chain)])])


def caught(function):
    """Return the exception that *function* raises, and keep no frame."""
    try:
        function()
    except Exception as exc:
        return exc.with_traceback(exc.__traceback__.tb_next)


def raise_a_cancellation():
    raise asyncio.CancelledError


def raise_one_and_the_same():
    raise SHARED


def raise_a_type_of_its_own():
    local = Local()

    class LocalError(Exception):
        def __str__(self):
            return str(local)

    raise LocalError


def return_a_value():
    return Local()


ENDS = [
    raise_an_error,
    raise_a_chain,
    raise_a_group,
    raise_a_cancellation,
    raise_one_and_the_same,
    return_a_value,
]


each_end = pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)


def census():
    """Count the living by their kinds."""
    return collections.Counter(type(thing).__name__ for thing in gc.get_objects())


def grown(before, after):
    """What there is more of, but for what comes once, as caches do."""
    return {kind: count for kind, count in (after - before).items() if count > 200}


def assert_grew_nothing(before, after):
    """Check that there is no more of anything *after* than *before*."""
    assert grown(before, after) == {}
    assert after["Local"] <= before["Local"]


async def assert_flat(host, end, restarts, steps=1):
    """Check that there is no more of anything after *restarts* of a service that *host* runs than early on."""
    counts = []
    attempts = 0

    @supervised(delays=[0], restart="always", max_restarts=restarts)
    async def service():
        nonlocal attempts
        local = Local()
        attempts += 1
        if attempts in (100, restarts):
            counts.append(census())
        for _ in range(steps):
            await asyncio.sleep(0)
        return local and end()

    with contextlib.suppress(Exception):
        await host(service)

    assert attempts == restarts + 1
    assert_grew_nothing(*counts)


async def run_a_hundred_thousand_times(host):
    """Fail so often in a service that *host* runs, and check its delays and the memory. For the virtual clock."""
    loop, counts = asyncio.get_running_loop(), []
    attempts, place, due = 0, -1, loop.time()

    @supervised(delays=[2, 5, 20], reset_after=50, on=Boom)
    async def service():
        nonlocal attempts, place, due
        local = Local()
        attempts += 1
        # Compared at once: a list of all would grow.
        assert loop.time() == due, attempts
        if attempts in (1000, 100_000):
            counts.append(census())
        # One run in a hundred is stable. In between the delays grow up to the last one.
        is_stable = attempts % 100 == 0
        runs, place = (51, 0) if is_stable else (1, place + 1)
        due = loop.time() + runs + (2, 5, 20)[min(place, 2)]
        await asyncio.sleep(runs)
        if attempts == 100_000:
            return local
        raise Boom

    await host(service)

    assert attempts == 100_000
    assert_grew_nothing(*counts)
