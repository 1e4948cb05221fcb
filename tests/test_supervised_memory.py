"""`@supervised` for months: nothing of a dead attempt stays alive, with the garbage collector switched off."""

from __future__ import annotations

import asyncio
import collections
import gc
import logging
import types
import weakref

import pytest
from services import in_cleanup, plainly
from tools import Boom, forever, no_garbage, turns

from async_plus import supervised
from async_plus.events import subscribers


class Local:
    """Something an attempt has in a local variable."""


class Formatting(logging.Handler):
    """It formats each record and forgets it, but for the last lines."""

    def __init__(self):
        super().__init__()
        self.lines = collections.deque(maxlen=50)

    def emit(self, record):
        self.lines += self.format(record).splitlines()


@pytest.fixture(autouse=True)
def log(monkeypatch):
    """The lines of the log. On a logger of its own: pytest keeps each record, and with it the traceback."""
    logger = logging.Logger("async_plus")
    logger.addHandler(Formatting())
    monkeypatch.setattr(subscribers, "logger", logger)
    return logger.handlers[0].lines


@pytest.fixture(autouse=True)
def no_garbage_collector():
    """What a cycle keeps alive is then seen to be alive."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(params=[plainly, in_cleanup])
def hosting(request):
    """How the service is awaited. Each promise holds for both."""
    return request.param


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


async def assert_flat(end, restarts, steps=1):
    """Check that there is no more of anything after *restarts* than early on."""
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

    await asyncio.gather(service(), return_exceptions=True)

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


# On one loop, for the time it takes.
@pytest.mark.asyncio(loop_factories=["default"])
@pytest.mark.parametrize("end", [raise_an_error, return_a_value])
async def test_ten_thousand_restarts_leave_memory_flat(end):
    """No task, coroutine, frame, traceback, exception or anything else grows in number with the restarts."""
    await assert_flat(end, 10_000)


@pytest.mark.asyncio(loop_factories=["default"])
@pytest.mark.virtual_time
@pytest.mark.time_limit(300)
async def test_a_hundred_thousand_failures_keep_the_delays_and_no_memory():
    """Each hundredth run is stable: the delay after it is the first one again. Weeks go by."""
    await run_a_hundred_thousand_times(plainly)


@each_end
@pytest.mark.parametrize("steps", [0, 1])
async def test_five_hundred_restarts_leave_memory_flat_on_each_loop(end, steps):
    """However they end. Eager attempts that fail in their first step are held by a frame of create_task (gh-128552)."""
    await assert_flat(end, 500, steps)


@pytest.mark.parametrize("end", [*ENDS, raise_a_type_of_its_own], ids=lambda end: end.__name__)
async def test_during_the_delay_nothing_of_the_last_attempt_is_alive(end, hosting):
    """Neither a local of it, nor what it raised or returned, nor its task. A delay may last for hours."""
    dead = []

    def keep_track(thing):
        dead.append(weakref.ref(thing))
        return thing

    async def service():
        local = keep_track(Local())
        keep_track(asyncio.current_task())
        keep_track(asyncio.current_task().get_coro())
        await asyncio.sleep(0)
        try:
            return keep_track(end()) and local
        except BaseException as exc:
            if exc is not SHARED:
                keep_track(exc)
            raise

    supervision = supervised(delays=[600], restart="always")(service)
    host = asyncio.create_task(hosting(supervision))
    await turns(10)

    assert [thing() for thing in dead[1:2]] == [None]
    alive = [thing() for thing in dead if thing() is not None]
    if end is raise_one_and_the_same:
        # Whoever keeps the exception keeps the last attempt's frames with it, and no others.
        assert list(map(type, alive)) == [Local]
        SHARED.__traceback__ = None
    else:
        assert alive == []
    host.cancel()
    await asyncio.wait([host])


async def test_a_stopped_service_leaves_nothing(hosting):
    """After a stop, no local of the attempt is alive."""
    dead = []

    async def service():
        local = Local()
        dead.append(weakref.ref(local))
        await forever()

    host = asyncio.create_task(hosting(supervised(service)))
    await turns(10)
    host.cancel()
    await asyncio.wait([host])
    with pytest.raises(asyncio.CancelledError):
        host.result()
    del host
    await turns()

    assert [thing() for thing in dead] == [None]


async def fail_later():
    await asyncio.sleep(0)
    raise Boom


@pytest.mark.parametrize("service", [forever, fail_later])
async def test_a_host_that_was_stopped_is_in_no_reference_cycle(service, hosting):
    """It leads to the frames of the supervision by its CancelledError, which nobody need ask for."""
    with no_garbage():
        host = asyncio.create_task(hosting(supervised(delays=[600])(service)))
        await turns()
        host.cancel()
        await turns()
        assert host.done()
        del host


async def test_a_given_up_service_leaves_its_error_to_the_caller_alone():
    """The error that is raised has the frames it came through; when the caller lets go of it, nothing stays."""
    dead = []

    @supervised(max_restarts=0)
    async def service():
        local = Local()
        dead.append(weakref.ref(local))
        raise Boom

    with pytest.raises(Boom) as caught:
        await service()
    assert dead[0]() is not None
    assert isinstance(caught.value.__traceback__, types.TracebackType)
    del caught
    # The loop has the attempt's task in hand until this step of ours is over.
    await asyncio.sleep(0)

    assert dead[0]() is None


async def test_the_log_was_written(log):
    """What is measured above is a supervision that reports: tracebacks are formatted, and let go."""

    @supervised(delays=[0], max_restarts=1, name="feed")
    async def service():
        raise Boom

    with pytest.raises(Boom):
        await service()

    lines = list(log)
    assert lines[0] == "feed started, attempt 1"
    assert lines[1] == "feed failed after 0.0 s with Boom, restart 1 in 0.0 s"
    assert lines[2] == "Traceback (most recent call last):"
    assert lines[-1] == "gave up on feed after 1 restart: the last attempt failed with Boom after 0.0 s"
