"""`task_scope.wait` in tasks of that very scope."""

from __future__ import annotations

import asyncio
import sys

import pytest
from tools import (
    Boom,
    after,
    fail,
    forever,
    futures,
    give,
    noting,
    start,
    turns,
)

from async_plus import ignore, task_scope

FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED = (
    asyncio.FIRST_COMPLETED,
    asyncio.FIRST_EXCEPTION,
    asyncio.ALL_COMPLETED,
)

any_kind = pytest.mark.parametrize("return_when", [FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED])


async def leave(scope):
    """Stop what still runs, so that the end of the block need not."""
    scope.cancel()
    await turns()


class TestChildren:
    """A child may wait for its own scope: members that wait there themselves are not waited for."""

    @any_kind
    async def test_the_only_one_does_not_wait(self, return_when):
        """There is nobody else."""
        async with task_scope() as scope:
            assert await scope.launch(scope.wait(return_when=return_when)) is None

    @any_kind
    async def test_one_waits_for_the_others(self, return_when):
        """Like anybody else."""
        go = futures(2)

        async with task_scope() as scope:
            scope.launch(after(go[0]))
            scope.launch(after(go[1]))
            waiting = scope.launch(scope.wait(return_when=return_when))
            await turns()
            assert not waiting.done()

            go[0].set_result(None)
            await turns()
            assert waiting.done() == (return_when == FIRST_COMPLETED)
            go[1].set_result(None)
            await waiting

    async def test_one_is_woken_by_a_failure(self):
        """The first exception of another."""
        [go] = futures(1)

        async with task_scope(ignore) as scope:
            scope.launch(after(go, Boom()))
            scope.launch(forever())
            waiting = scope.launch(scope.wait())
            await turns()
            go.set_result(None)
            await waiting
            await leave(scope)

    @any_kind
    async def test_several_do_not_wait_for_each_other(self, return_when):
        """When only they are left, all of them go on."""
        log, [go] = [], futures(1)

        async with task_scope() as scope:
            scope.launch(after(go))
            waiting = [scope.launch(noting(log, n, scope.wait(return_when=return_when))) for n in range(3)]
            await turns()
            assert log == []
            go.set_result(None)
            await asyncio.gather(*waiting)

        assert sorted(log) == [(0, "ended"), (1, "ended"), (2, "ended")]

    async def test_the_last_one_to_wait_frees_the_others(self):
        """From then on all of them wait, so all are free, whatever the last one does next."""
        log = []

        async def last():
            await turns()
            await scope.wait()
            log.append("the last one")
            await forever()

        async with task_scope() as scope:
            scope.launch(noting(log, "another", scope.wait()))
            scope.launch(last())
            await turns(40)
            assert sorted(log, key=str) == [("another", "ended"), "the last one"]
            await leave(scope)

    async def test_the_host_waits_for_those_who_wait(self):
        """They are not done yet: first they are free, and the host when they have ended."""
        log, [go, finish] = [], futures(2)

        async def child():
            await scope.wait()
            log.append("the child is free")
            await finish

        async with task_scope() as scope:
            scope.launch(after(go))
            scope.launch(child())
            waiting = await start(noting(log, "host", scope.wait(return_when=ALL_COMPLETED)))
            go.set_result(None)
            await turns()
            assert log == ["the child is free"]
            finish.set_result(None)
            await waiting

        assert log == ["the child is free", ("host", "ended")]

    async def test_the_host_is_woken_by_the_end_of_one_who_waited(self):
        """Its end counts like any other."""
        async with task_scope() as scope:
            scope.launch(scope.wait())
            await scope.wait()
            scope.launch(scope.wait())
            scope.launch(forever())
            await leave(scope)

    async def test_one_that_is_woken_waits_no_longer_and_is_waited_for(self):
        """What one child is woken by must not free another, who waits for more than that."""
        log, [go, finish] = [], futures(2)

        async def first():
            await scope.wait(return_when=FIRST_COMPLETED)
            log.append("the first one is free")
            await finish

        async with task_scope() as scope:
            scope.launch(after(go))
            scope.launch(first())
            waiting = scope.launch(scope.wait(return_when=ALL_COMPLETED))
            await turns()
            go.set_result(None)
            await turns()
            assert log == ["the first one is free"]
            assert not waiting.done()
            finish.set_result(None)
            await waiting

    @pytest.mark.virtual_time
    async def test_one_whose_time_is_over_waits_no_longer_and_is_waited_for(self, virtual_clock):
        """And it is not woken by others that wait on."""

        async def first():
            with pytest.raises(TimeoutError):
                await scope.wait(2)
            await asyncio.sleep(5)

        async with task_scope() as scope:
            scope.launch(asyncio.sleep(4))
            scope.launch(first())
            await scope.launch(scope.wait())
            assert virtual_clock.elapsed == 7

    async def test_one_that_is_cancelled_waits_no_longer(self):
        """It has ended then, and counts as such."""
        async with task_scope() as scope:
            scope.launch(forever())
            waiting = scope.launch(scope.wait())
            await turns()
            waiting.cancel()
            await scope.wait(return_when=FIRST_COMPLETED)
            assert waiting.cancelled()
            await leave(scope)

    async def test_launching_others_is_waited_for_again(self):
        """Two children wait for each other's tasks, without a deadlock and without losing one."""
        log = []

        async def child(name, rounds):
            for number in range(rounds):
                scope.launch(noting(log, f"{name}{number}", turns(3)))
                await scope.wait(return_when=ALL_COMPLETED)

        async with task_scope() as scope:
            scope.launch(child("a", 3))
            scope.launch(child("b", 2))
            await scope.wait(return_when=ALL_COMPLETED)

        assert sorted(log) == [(name, "ended") for name in ("a0", "a1", "a2", "b0", "b1")]

    async def test_a_thousand_may_wait(self):
        """Also for one that ends last."""
        [go] = futures(1)

        async with task_scope() as scope:
            scope.launch(after(go))
            waiting = [scope.launch(scope.wait(return_when=ALL_COMPLETED)) for _ in range(1000)]
            await turns()
            go.set_result(None)
            await scope.wait(return_when=ALL_COMPLETED)
            assert all(task.done() for task in waiting)


if sys.version_info >= (3, 12):

    @pytest.mark.asyncio(loop_factories=["eager"])
    class TestEager:
        """Under an eager task factory the first step runs inside the launch (3.12+)."""

        @any_kind
        async def test_a_child_may_wait_in_its_first_step(self, return_when):
            """It does not wait for itself, although it was not known as one of the tasks when it began."""
            [go] = futures(1)

            async with task_scope() as scope:
                scope.launch(after(go))
                waiting = scope.launch(scope.wait(return_when=return_when))
                await turns()
                assert not waiting.done()
                go.set_result(None)
                await waiting

        async def test_a_host_is_not_freed_by_a_child_that_begins_to_wait(self):
            """The child in its first step is no reason to think that none is left."""
            [go] = futures(1)

            async with task_scope() as scope:
                scope.launch(after(go))
                waiting = await start(scope.wait())
                scope.launch(scope.wait())
                await turns()
                assert not waiting.done()
                go.set_result(None)
                await waiting

        async def test_what_ends_in_its_first_step_counts_as_well(self):
            """A moment after the launch."""
            async with task_scope(ignore) as scope:
                scope.launch(forever())
                scope.launch(give(1))
                await scope.wait(return_when=FIRST_COMPLETED)
                scope.launch(fail(Boom()))
                await scope.wait()
                await leave(scope)
