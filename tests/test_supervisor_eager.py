"""`Supervisor` with task factories that fail, with eager first steps, and with exits that come out of either."""

from __future__ import annotations

import asyncio
import functools
import gc

import pytest
from services import told
from tools import Bang, Boom, crash, elapsed, forever, turns

from async_plus import Supervisor, supervised

virtual = pytest.mark.virtual_time


class Factory:
    """A task factory that makes some tasks, and fails once."""

    def __init__(self, error, *, after):
        self.error = error
        self.left = after

    def __call__(self, loop, coro, **options):
        self.left -= 1
        if self.left == -1:
            raise self.error
        return asyncio.Task(coro, loop=loop, **options)


@pytest.fixture
async def factory():
    """Set the task factory of the loop, for the rest of the test."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    yield loop.set_task_factory
    loop.set_task_factory(before)


@virtual
class TestTaskFactories:
    async def test_one_that_fails_at_the_first_start_fails_the_start(self, factory):
        """There is no child then, and the supervision goes on."""
        async with Supervisor("shop") as sup:
            factory(Factory(Bang(), after=0))
            with pytest.raises(Bang):
                await sup.start(supervised(ready=True, heartbeat=1)(forever))
            factory(None)
            assert sup.children == ()
            await sup.start(asyncio.sleep, 1)
            await sup.wait()

    async def test_one_that_fails_at_a_restart_is_the_end(self, factory):
        """No restart would help. The error is raised like the child's own."""
        async with Supervisor("shop") as sup:
            factory(Factory(Bang(), after=1))
            child = await sup.start(supervised(delays=[5], name="feed")(functools.partial(crash, 1)))
            with pytest.raises(Bang) as caught:
                await sup.wait()
            assert (elapsed(), child.state) == (6, "failed")
            assert caught.value.__notes__ == ["child 'feed' of supervisor 'shop'"]

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    async def test_an_exit_comes_out_and_the_others_are_stopped(self, factory, kind, diary, caplog):
        """As from the first step of an eager task; it is no error to report."""
        with pytest.raises(kind):
            async with Supervisor("shop") as sup:
                other = await sup.start(diary.service("db"))
                await turns()
                factory(Factory(kind(3), after=0))
                await sup.start(forever)
        assert other.state == "done"
        assert told(caplog) == []

    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    async def test_an_exit_goes_before_an_error_of_the_block(self, factory, kind, caplog):
        """Nobody has to be told that the program ends."""
        with pytest.raises(Boom):
            async with Supervisor("shop") as sup:
                factory(Factory(kind(3), after=0))
                with pytest.raises(kind):
                    await sup.start(forever)
                raise Boom
        assert told(caplog) == []


@virtual
class TestEager:
    @pytest.mark.asyncio(loop_factories=["eager"])
    async def test_a_first_step_may_stop_or_restart_its_own_child(self):
        """It is not known as a task yet; it is cancelled when it is."""
        calls = []
        sup = Supervisor("shop")

        async def feed():
            [child] = sup.children
            calls.append(child.state)
            # Not awaited in this step: whoever waits is told later.
            task = asyncio.get_running_loop().create_task(child.stop())
            await forever()
            await task

        async with sup:
            child = await sup.start(feed)
            await sup.wait()
            assert child.state == "done"
        assert calls == ["starting"]

    @pytest.mark.asyncio(loop_factories=["eager"])
    async def test_a_first_step_may_restart_its_own_child(self):
        """There is never a second attempt beside the first."""
        calls, alive = [], []
        sup = Supervisor("shop")

        async def feed():
            [child] = sup.children
            alive.append(len(alive))
            assert alive == [0]
            calls.append(len(calls))
            try:
                if len(calls) == 1:
                    await child.restart()
                await forever()
            finally:
                alive.pop()

        async with sup:
            child = await sup.start(feed)
            await turns()
            assert (calls, child.state, child.restarts) == ([0, 1], "running", 0)

    @pytest.mark.asyncio(loop_factories=["eager"])
    @pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
    async def test_a_first_step_may_start_another_one(self, strategy, diary):
        """While the first is being started."""
        sup = Supervisor("shop", strategy=strategy)

        async def boot():
            await sup.start(diary.service("db"))
            await forever()

        async with sup:
            await sup.start(boot)
            await turns()
            assert len(sup.children) == 2
            assert diary.lines == [(0, "db", "starts")]

    async def test_one_that_is_done_at_once(self):
        """start() returns its handle."""

        async def job():
            return 5

        async with Supervisor("shop") as sup:
            child = await sup.start(job)
            await turns()
            assert child.state == "done"
            await sup.wait()

    @pytest.mark.asyncio(loop_factories=["eager"])
    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    async def test_an_exit_in_the_first_step_comes_out_of_start(self, kind, diary, no_leaks):
        """The others are stopped, and nothing is reported, but for a line of asyncio's own."""

        async def leave():
            raise kind(3)

        with pytest.raises(kind):
            async with Supervisor("shop") as sup:
                other = await sup.start(diary.service("db"))
                await turns()
                try:
                    await sup.start(leave)
                finally:
                    assert len(sup.children) == 1
        assert other.state == "done"
        gc.collect()
        no_leaks.errors.clear()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_of_a_child_ends_the_program_in_order(kind):
    """The loop raises it; the others are stopped, and whoever waits for the children gets it as well."""
    log = []

    async def leave():
        await asyncio.sleep(0)
        raise kind(3)

    async def other():
        try:
            await forever()
        finally:
            log.append("other stopped")

    async def host():
        async with Supervisor("shop") as sup:
            await sup.start(other)
            await sup.start(leave)
            await sup.wait()

    loop = asyncio.new_event_loop()
    task = loop.create_task(host())
    for _ in range(2):
        with pytest.raises(kind):
            loop.run_until_complete(task)
    assert isinstance(task.exception(), kind)
    assert log == ["other stopped"]
    loop.close()
