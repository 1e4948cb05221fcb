"""The same scenarios with anyio, tenacity and stamina: what docs/explanation/comparison.rst says of them, good and bad.

What the others do is asserted as it is, so that a version that does otherwise shows up here, and the page is mended.
"""

from __future__ import annotations

import asyncio
import logging

import anyio
import pytest
import stamina
import tenacity
from services import Scripted
from tools import Bang, Boom, after, fail, fail_when_cancelled, forever, give, messages, noting, turns

from async_plus import cancel_and_wait, supervised

virtual = pytest.mark.virtual_time
# What is looked at here is not ours, and no matter of loops.
on_the_default_loop = pytest.mark.asyncio(loop_factories=["default"])


def by_tenacity(**options):
    """tenacity's decorator with delays of 1, 2, 4, 8 … seconds."""
    return tenacity.retry(wait=tenacity.wait_exponential(multiplier=1), **options)


def by_stamina(attempts=None, timeout=None):
    """stamina's decorator with the same delays, and without the limits that it has by default."""
    return stamina.retry(on=Exception, attempts=attempts, timeout=timeout, wait_initial=1, wait_max=1000, wait_jitter=0)


both = pytest.mark.parametrize("retry", [by_tenacity, by_stamina])


@on_the_default_loop
class TestAnyio:
    """A task group, the nursery of trio, on asyncio."""

    async def test_gather_returns_all_results_in_order(self):
        """As `asyncio.gather` does, but as a tuple."""
        assert await anyio.gather(after(asyncio.sleep(0), 1), give(2)) == (1, 2)

    async def test_a_failure_stops_the_siblings_and_all_errors_come_in_a_group(self):
        """Those of their cleanup, too."""
        log, error, late = [], Boom(), Bang()

        with pytest.raises(ExceptionGroup) as caught:
            await anyio.gather(
                noting(log, "sibling", forever()), after(asyncio.sleep(0), error), fail_when_cancelled(late)
            )

        assert log == [("sibling", "CancelledError"), ("sibling", "ended")]
        assert caught.value.exceptions == (error, late)

    async def test_a_child_that_fails_does_not_leave_the_others_at_work(self):
        """Independent children are for each to make itself, by a ``try``."""
        with pytest.raises(ExceptionGroup):
            async with anyio.create_task_group() as group:
                group.start_soon(after, asyncio.sleep(0), Boom())
                await forever()

    async def test_a_cancellation_that_is_swallowed_is_raised_again(self):
        """At each await, until the block is left."""
        swallowed = 0

        with anyio.move_on_after(0):
            while swallowed < 5:
                try:
                    await anyio.sleep(1)
                except asyncio.CancelledError:
                    swallowed += 1

        assert swallowed == 5

    async def test_start_returns_when_the_child_is_ready(self):
        """Readiness, with a value: the one thing of a supervisor that a nursery has."""

        async def serve(*, task_status):
            await turns()
            task_status.started("port 8080")
            await forever()

        async with anyio.create_task_group() as group:
            assert await group.start(serve) == "port 8080"
            group.cancel_scope.cancel()

    @virtual
    async def test_a_child_that_does_not_stop_is_waited_for_in_silence(self, caplog):
        """As a TaskGroup does it."""
        caplog.set_level(logging.DEBUG)

        async with anyio.create_task_group() as group:
            group.start_soon(lasting)
            await turns()
            group.cancel_scope.cancel()

        assert group.cancel_scope.cancelled_caught
        assert asyncio.get_running_loop().clock.elapsed == 60
        assert messages(caplog) == []


async def lasting():
    """End a minute after the cancellation."""
    with anyio.CancelScope(shield=True):
        await anyio.sleep(60)


class Untidy:
    """A service that runs until it is cancelled, each time in another way."""

    def __init__(self, *ways):
        self.ways = iter(ways)
        self.started = 0

    async def run(self):
        self.started += 1
        way = next(self.ways)
        await (way(Boom()) if way is fail_when_cancelled else way())


@on_the_default_loop
class TestRetries:
    """A service under what retries calls."""

    @virtual
    @both
    async def test_a_stop_is_no_failure(self, retry):
        """As long as the cleanup works."""
        service = Untidy(forever, forever)
        task = asyncio.create_task(retry()(service.run)())
        await turns()
        task.cancel()
        await asyncio.sleep(5)

        assert task.cancelled()
        assert service.started == 1

    @virtual
    @both
    async def test_a_stop_whose_cleanup_fails_is_taken_for_a_failure(self, retry):
        """And the service is started again, although somebody has told it to stop."""
        service = Untidy(fail_when_cancelled, forever)
        task = asyncio.create_task(retry()(service.run)())
        await turns()
        task.cancel()
        await asyncio.sleep(5)

        assert not task.done()
        assert service.started == 2
        await cancel_and_wait(task)

    @virtual
    async def test_a_stop_is_one_to_us_whatever_the_cleanup_raises(self):
        """Which is then raised."""
        service = Untidy(fail_when_cancelled, forever)
        task = asyncio.create_task(supervised(service.run)())
        await turns()
        task.cancel()
        await asyncio.wait([task])

        assert type(task.exception()) is Boom
        assert service.started == 1

    @virtual
    @both
    async def test_the_delays_go_on_growing_after_a_day_of_work(self, retry):
        """Three failures in the morning, and the one in the evening waits for longer than any of them."""
        script = Scripted(Boom(), Boom(), Boom(), (86400, Boom()), "done")

        assert await retry()(script.run)() == "done"
        assert script.started == [0, 1, 3, 7, 7 + 86400 + 8]

    @virtual
    async def test_our_delays_start_over(self):
        """It has run for longer than the longest of them."""
        script = Scripted(Boom(), Boom(), Boom(), (86400, Boom()), "done")

        assert await supervised(delays=[1, 2, 4, 8])(script.run)() == "done"
        assert script.started == [0, 1, 3, 7, 7 + 86400 + 1]

    @virtual
    async def test_the_timeout_of_stamina_interrupts_nothing_and_ends_the_retries(self):
        """By default, a call that fails after 45 seconds of work is not tried again."""
        script = Scripted((60, Boom()), "done")

        with pytest.raises(Boom):
            await stamina.retry(on=Exception)(script.run)()

        assert script.started == [0]

    async def test_tenacity_raises_an_error_of_its_own(self):
        """Unless it is told to ``reraise``. stamina raises the last error itself."""
        once = tenacity.stop_after_attempt(1)

        with pytest.raises(tenacity.RetryError):
            await by_tenacity(stop=once)(fail)(Boom())
        with pytest.raises(Boom):
            await by_tenacity(stop=once, reraise=True)(fail)(Boom())
        with pytest.raises(Boom):
            await by_stamina(attempts=1)(fail)(Boom())
