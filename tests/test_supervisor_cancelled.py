"""`Supervisor` and cancellations: of its host, of those who start and stop children, and of all tasks at once."""

from __future__ import annotations

import asyncio

import pytest
from services import end_of, told
from tools import Boom, elapsed, forever, turns

from async_plus import Supervisor

virtual = pytest.mark.virtual_time


@virtual
class TestCancellation:
    async def test_a_host_that_is_cancelled_while_it_waits_stops_its_children(self, diary):
        """The children are stopped in order, and the cancellation goes on."""
        host = asyncio.create_task(self.host(diary))
        await asyncio.sleep(1)
        host.cancel("enough")

        with pytest.raises(asyncio.CancelledError) as caught:
            await host
        assert caught.value.args == ("enough",)
        assert diary.since(1) == [("feed", "is told"), ("feed", "stops"), ("db", "is told"), ("db", "stops")]
        assert elapsed() == 5

    async def test_a_host_that_is_cancelled_again_waits_to_the_end_of_the_stop(self, diary):
        """Each child is cancelled once, and all have ended when it does."""
        host = asyncio.create_task(self.host(diary))
        await asyncio.sleep(1)
        host.cancel("first")
        await asyncio.sleep(1)
        host.cancel("second")
        await asyncio.sleep(1)
        host.cancel("third")

        with pytest.raises(asyncio.CancelledError):
            await host
        assert host.cancelling() == 3
        assert diary.since(1) == [("feed", "is told"), ("feed", "stops"), ("db", "is told"), ("db", "stops")]
        assert elapsed() == 5

    async def test_a_cancellation_at_the_end_of_a_block_that_failed_is_raised(self, diary):
        """With the exception of the block as its context."""

        async def host():
            async with Supervisor("shop") as sup:
                await sup.start(diary.service("db", stop_takes=2))
                await asyncio.sleep(1)
                raise Boom

        task = asyncio.create_task(host())
        await asyncio.sleep(2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert type(caught.value.__context__) is Boom
        assert elapsed() == 3

    async def host(self, diary):
        async with Supervisor("shop") as sup:
            await sup.start(diary.service("db", stop_takes=2))
            await sup.start(diary.service("feed", stop_takes=2))
            await sup.wait()

    async def test_a_start_that_is_cancelled_stops_its_child(self, diary):
        """However often it is cancelled; the others go on."""
        async with Supervisor("shop") as sup:
            other = await sup.start(diary.service("db"))
            task = asyncio.create_task(sup.start(diary.service("feed", ready_after=10, stop_takes=2)))
            await asyncio.sleep(1)
            task.cancel("first")
            await asyncio.sleep(1)
            task.cancel("second")
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert caught.value.args == ("first",)
            assert elapsed() == 3
            assert sup.children == (other,)

    async def test_a_stop_that_is_cancelled_goes_on(self, diary):
        """The child is the supervisor's, not the caller's: that need not wait for it."""
        async with Supervisor("shop") as sup:
            child = await sup.start(diary.service("db", stop_takes=2))
            await turns()
            task = asyncio.create_task(child.stop())
            await turns()
            task.cancel()
            assert await end_of(task) == "cancelled"
            assert (elapsed(), child.state) == (0, "stopping")
            await child.wait()
            assert (elapsed(), child.state) == (2, "done")

    async def test_a_cancellation_of_all_tasks_at_once_is_a_stop(self, caplog, diary):
        """As asyncio.run does at its end: that is no failure, and nothing is restarted meanwhile."""
        host = asyncio.create_task(self.host(diary))
        await asyncio.sleep(1)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        assert await end_of(host) == "cancelled"

        assert told(caplog) == []
        assert diary.since(1).count(("db", "starts")) == 0

    async def test_a_cancellation_of_all_tasks_at_once_costs_no_child_if_the_host_goes_on(self, diary):
        """What was cancelled is started again then, so that no service is missing for good."""

        async def host():
            async with Supervisor("shop") as sup:
                await sup.start(diary.service("db", delays=[0]))
                try:
                    await forever()
                except asyncio.CancelledError:
                    await asyncio.sleep(10)
                return [child.state for child in sup.children]

        task = asyncio.create_task(host())
        await asyncio.sleep(1)
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()
        assert await task == ["running"]
        assert diary.since(0)[:4] == [("db", "starts"), ("db", "is told"), ("db", "stops"), ("db", "starts")]

    async def test_a_host_that_is_closed_leaves_without_waiting(self, diary):
        """GeneratorExit in wait(): the children are cancelled, and may outlive it."""
        running = []

        async def host():
            async with Supervisor("shop") as sup:
                running.append(await sup.start(diary.service("db", stop_takes=1)))
                running.append(await sup.start(diary.service("feed", stop_takes=1)))
                await sup.wait()

        coro = host()
        coro.send(None)
        await turns()
        coro.close()
        await asyncio.sleep(2)

        assert [child.state for child in running] == ["done", "done"]
        assert sorted(diary.since(0)) == sorted(
            (name, what) for name in ("db", "feed") for what in ("starts", "is told", "stops")
        )

    async def test_an_async_generator_may_host_it(self, diary):
        """Its aclose() waits for the children."""

        async def numbers():
            async with Supervisor("shop") as sup:
                await sup.start(diary.service("db", stop_takes=1))
                await turns()
                yield 1
                yield 2

        generator = numbers()
        assert await anext(generator) == 1
        await generator.aclose()
        assert diary.since(0) == [("db", "starts"), ("db", "is told"), ("db", "stops")]
