"""`@supervised` for months: nothing of a dead attempt stays alive, with the garbage collector switched off."""

from __future__ import annotations

import asyncio
import types
import weakref

import pytest
from memory import (
    ENDS,
    SHARED,
    Local,
    assert_flat,
    each_end,
    raise_a_type_of_its_own,
    raise_an_error,
    raise_one_and_the_same,
    return_a_value,
    run_a_hundred_thousand_times,
)
from services import plainly
from tools import Boom, forever, no_garbage, turns

from async_plus import supervised

pytestmark = pytest.mark.usefixtures("formatted_log", "no_garbage_collector")


# On one loop, for the time it takes.
@pytest.mark.asyncio(loop_factories=["default"])
@pytest.mark.parametrize("end", [raise_an_error, return_a_value])
async def test_ten_thousand_restarts_leave_memory_flat(end):
    """No task, coroutine, frame, traceback, exception or anything else grows in number with the restarts."""
    await assert_flat(plainly, end, 10_000)


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
    await assert_flat(plainly, end, 500, steps)


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


@pytest.mark.virtual_time
async def test_the_log_was_written(formatted_log):
    """What is measured above is a supervision that reports: tracebacks are formatted, and let go."""

    @supervised(delays=[0], max_restarts=1, name="feed")
    async def service():
        raise Boom

    with pytest.raises(Boom):
        await service()

    lines = list(formatted_log)
    assert lines[0] == "feed started, attempt 1"
    assert lines[1] == "feed failed after 0.0 s with Boom, restart 1 in 0.0 s"
    assert lines[2] == "Traceback (most recent call last):"
    assert lines[-1] == "gave up on feed after 1 restart: the last attempt failed with Boom after 0.0 s"
