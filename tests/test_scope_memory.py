"""What lives for months stays flat: memory is counted in objects and blocks, not in time.

On one loop only: a million tasks take their time, and what a loop itself keeps is not ours to test.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter

import pytest
from tools import Boom, forever, futures, turns, watched

from async_plus import ignore, launch_watched, task_scope

pytestmark = [pytest.mark.asyncio(loop_factories=["default"]), pytest.mark.time_limit(300)]

BATCH = 1_000


async def returns():
    pass


async def fails():
    raise Boom


def memory():
    """Blocks of memory in use, and objects by type."""
    # Twice, because the first count of types fills caches of its own.
    for _ in range(2):
        gc.collect()
        objects = Counter(map(type, gc.get_objects()))
    return sys.getallocatedblocks(), objects


def assert_flat(before, after):
    """Check that no more is in use than before, but for a few things that caches may take."""
    (blocks_before, objects_before), (blocks_after, objects_after) = before, after
    more = {kind.__name__: count for kind, count in (objects_after - objects_before).items() if count > 10}
    assert more == {}
    assert blocks_after - blocks_before < 500


class TestFlat:
    async def test_a_million_tasks_through_one_scope_leave_nothing(self):
        """Whether they return, fail or are cancelled, each is let go when it is done."""
        sizes = []
        async with task_scope(ignore) as scope:
            lasting = scope.launch(forever())
            for batch in range(1_000_000 // BATCH):
                for _ in range(BATCH - 20):
                    scope.launch(returns())
                for _ in range(10):
                    scope.launch(fails(), "failing")
                    scope.launch(returns()).cancel()
                assert len(scope) == BATCH + 1
                while len(scope) > 1:
                    await scope.wait(return_when=asyncio.FIRST_COMPLETED)
                if batch in (99, 999):
                    sizes.append(memory())
            assert scope.tasks == {lasting}

        assert_flat(*sizes)

    async def test_a_scope_that_is_waited_for_again_and_again_keeps_nothing_of_the_waits(self):
        """Neither of those that came to their end, nor of those that were late or cancelled."""
        sizes = []
        async with task_scope() as scope:
            scope.launch(forever())
            for number in range(10_000):
                waiting = asyncio.create_task(scope.wait(1000))
                await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(TimeoutError):
                    await scope.wait(0)
                scope.launch(returns())
                await scope.wait(return_when=asyncio.FIRST_COMPLETED)
                if number in (999, 9_999):
                    sizes.append(memory())

        assert_flat(*sizes)

    async def test_tasks_that_are_done_are_not_in_the_scope_any_more(self):
        """While it is open, and without the help of the garbage collector."""
        async with task_scope(ignore) as scope:
            for _ in range(100):
                scope.launch(returns())
                scope.launch(fails())
            await scope.wait(return_when=asyncio.ALL_COMPLETED)
            assert not scope._children._live
            assert not scope._children._told

            scope.launch(forever())
            scope.cancel()
            await turns()
            assert not scope._children._told
            assert scope._children._warn_timer is None

    async def test_scopes_that_are_left_leave_nothing(self):
        """Ten thousand of them, used in each way."""
        sizes = []
        for number in range(10_000):
            async with task_scope(ignore, drain=1) as scope:
                scope.launch(fails())
                [go] = futures(1)
                scope.launch(wait_for(go))
                go.set_result(None)
            async with task_scope() as scope:
                scope.launch(forever())
            if number in (999, 9_999):
                sizes.append(memory())

        assert_flat(*sizes)

    async def test_a_hundred_thousand_watched_tasks_leave_nothing(self):
        """The loop's own list of them holds those that run, and no others."""
        sizes = []
        for batch in range(100):
            for _ in range(BATCH - 1):
                launch_watched(returns())
            launch_watched(fails(), on_exception=ignore)
            assert watched() == BATCH
            await turns(3)
            if batch in (9, 99):
                sizes.append(memory())

        assert_flat(*sizes)
        assert watched() == 0


async def wait_for(future):
    await future
