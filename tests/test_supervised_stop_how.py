"""`@supervised` being stopped in other ways: by a timeout, a task group, SystemExit, or by being closed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys

import anyio
import pytest
from loops import each_loop, factories
from services import Service, end_of, feed, in_cleanup, raise_or_return, told
from tools import Bang, Boom, after, fail_when_cancelled, forever, refused, start, turns

from async_plus import UnexpectedCancellation

pytestmark = pytest.mark.usefixtures("infos_are_logged")

virtual = pytest.mark.virtual_time

STOPPED = ("INFO", "feed stopped, attempt 1")
OVERTAKEN = ("WARNING", "feed failed after 0.0 s with Boom, not restarted: it is being stopped")
RESTARTING = ("WARNING", "feed failed after 0.0 s with Boom, restart 1 in 600.0 s")


class TestExits:
    """The loop itself raises SystemExit and KeyboardInterrupt, and may then be run again to clean up."""

    @each_loop
    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    def test_a_stop_after_the_attempt_ended_in_it_raises_the_cancellation(self, kind, loop_factory, hosting, caplog):
        """As asyncio.run does it: it cancels what is left, and must not get the exit a second time."""
        hosts = []

        async def main():
            gate = asyncio.get_running_loop().create_future()

            async def service():
                await gate
                # After this step, and before the host is called.
                asyncio.get_running_loop().call_soon(hosts[0].cancel)
                raise kind(3)

            hosts.append(await start(hosting(feed(service))))
            gate.set_result(None)
            await forever()

        with contextlib.closing(loop_factory()) as loop:
            left = loop.create_task(main())
            with pytest.raises(kind) as caught:
                loop.run_until_complete(left)
            assert loop.run_until_complete(end_of(hosts[0])) == "cancelled"
            left.cancel()
            assert loop.run_until_complete(end_of(left)) == "cancelled"

        assert caught.value.args == (3,)
        assert told(caplog) == [STOPPED]

    @each_loop
    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    def test_an_exit_in_the_cleanup_leaves_the_cancellation(self, kind, loop_factory, hosting, caplog):
        """The loop has raised it once. From the host comes the cancellation that it was given."""
        hosts = []

        async def service():
            try:
                await forever()
            finally:
                raise kind(3)

        async def main():
            hosts.append(await start(hosting(feed(service))))
            hosts[0].cancel()
            await forever()

        with contextlib.closing(loop_factory()) as loop:
            left = loop.create_task(main())
            with pytest.raises(kind):
                loop.run_until_complete(left)
            assert loop.run_until_complete(end_of(hosts[0])) == "cancelled"
            left.cancel()
            assert loop.run_until_complete(end_of(left)) == "cancelled"

        assert told(caplog) == [STOPPED]


class TestTimeouts:
    @virtual
    async def test_a_timeout_during_an_attempt_is_a_stop(self, virtual_clock, caplog):
        """asyncio.timeout cancels the host and takes it back; what comes out is its TimeoutError."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await feed(forever)()

        assert virtual_clock.elapsed == 5
        assert asyncio.current_task().cancelling() == 0
        assert told(caplog) == [STOPPED]

    @virtual
    async def test_a_timeout_during_the_delay_is_a_stop(self, virtual_clock, caplog):
        """No attempt is started afterwards."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await feed(after)(asyncio.sleep(1), Boom())

        await asyncio.sleep(10_000)
        assert asyncio.current_task().cancelling() == 0
        assert told(caplog) == [
            ("WARNING", "feed failed after 1.0 s with Boom, restart 1 in 600.0 s"),
            ("INFO", "feed stopped, before restart 1"),
        ]

    @virtual
    async def test_a_timeout_of_the_services_own_is_a_failure(self, virtual_clock):
        """Inside the attempt, it cancels the attempt's task and not the host."""
        started = []

        async def service():
            started.append(virtual_clock.elapsed)
            async with asyncio.timeout(5):
                await forever()

        with pytest.raises(TimeoutError) as caught:
            await feed(service, delays=[1], max_restarts=2)()

        assert caught.value.__notes__ == ["gave up on feed after 2 restarts"]
        assert started == [0, 6, 12]

    @virtual
    async def test_wait_for_waits_until_the_attempt_has_stopped(self, virtual_clock):
        """And raises TimeoutError, as for any coroutine."""
        ended = []

        async def service():
            try:
                await forever()
            finally:
                await asyncio.sleep(2)
                ended.append(virtual_clock.elapsed)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(feed(service)(), 5)

        assert ended == [7]

    async def test_a_cancel_scope_of_anyio_is_a_stop(self, caplog):
        """It cancels the host anew in each turn of the loop. A shielded cleanup gets through all the same."""
        ended = []

        async def service():
            try:
                await forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await turns()
                ended.append(True)

        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_soon(scope.cancel)
            await feed(service)()

        assert scope.cancelled_caught
        assert asyncio.current_task().cancelling() == 0
        assert told(caplog) == [STOPPED]


class TestTheCountTellsAStop:
    @virtual
    async def test_a_task_group_that_fails_inside_is_a_failure(self, hosting, caplog):
        """On 3.11 and 3.12 it leaves the cancelling() of its task raised, which would pass for a stop (gh-116720).

        The attempt has a task of its own for that. A real stop still works afterwards.
        """
        attempts = []

        async def service():
            attempts.append(asyncio.current_task())
            if len(attempts) == 3:
                await forever()
            async with asyncio.TaskGroup() as group:
                group.create_task(after(asyncio.sleep(0), Boom()))

        host = await start(hosting(feed(service, delays=[0])))
        await turns(50)
        assert len(attempts) == 3
        assert attempts[0].cancelling() == (1 if sys.version_info < (3, 13) else 0)

        host.cancel()

        assert await end_of(host) == "cancelled"
        assert [text for _, text in told(caplog)] == [
            "feed failed after 0.0 s with ExceptionGroup, restart 1 in 0.0 s",
            "feed failed after 0.0 s with the same ExceptionGroup, restart 2 in 0.0 s",
            "feed stopped, attempt 3",
        ]

    async def test_after_a_task_group_has_failed_in_the_host_restarts_go_on(self, caplog):
        """There the host's own count is raised when the service starts (gh-116720). It is no stop."""
        attempts = []

        async def service():
            attempts.append(True)
            if len(attempts) < 3:
                raise Boom
            return "done"

        async def host():
            with contextlib.suppress(ExceptionGroup):
                async with asyncio.TaskGroup() as group:
                    group.create_task(after(asyncio.sleep(0), Bang()))
                    await forever()
            return await feed(service, delays=[0])()

        assert await asyncio.create_task(host()) == "done"
        assert len(attempts) == 3

    async def test_a_failing_task_group_around_it_is_a_stop(self, caplog):
        """The group cancels its host, as whoever fails a sibling of the service expects."""
        service = Service()

        async def host():
            async with asyncio.TaskGroup() as group:
                group.create_task(after(asyncio.sleep(0), Boom()))
                await feed(service)()

        error = await end_of(asyncio.create_task(host()))

        assert isinstance(error, ExceptionGroup)
        assert len(service.tasks) == 1
        assert told(caplog) == [STOPPED]

    async def test_an_attempt_that_somebody_else_cancels_is_restarted(self, hosting):
        """Whatever the count of the host: in a cleanup it is raised all the time, and no stop for that."""
        service = Service()
        host = await start(hosting(feed(service, delays=[0])))

        service.tasks[0].cancel()
        await turns()
        assert len(service.tasks) == 2
        service.tasks[1].cancel()
        await turns()
        service.order.set_result("done")

        assert await end_of(host) == "done"
        assert len(service.tasks) == 3

    async def test_given_up_it_is_raised_as_an_error(self, hosting):
        """And never as a CancelledError, which would pass for a cancellation of the host."""
        service = Service()
        host = await start(hosting(feed(service, restart="never")))

        service.tasks[0].cancel()

        with refused(UnexpectedCancellation, "feed was cancelled, but not by stopping it"):
            await host

    @virtual
    async def test_failures_and_values_in_a_cleanup_are_as_elsewhere(self, caplog):
        """Code that retries while it is being cancelled gets its restarts and its value."""
        outcomes = iter([Boom(), Boom(), "flushed"])

        async def service():
            outcome = next(outcomes)
            return raise_or_return(outcome) if isinstance(outcome, Boom) else outcome

        host = asyncio.create_task(in_cleanup(feed(service, delays=[0])))

        assert await end_of(host) == "flushed"
        assert told(caplog) == [
            ("WARNING", "feed failed after 0.0 s with Boom, restart 1 in 0.0 s"),
            ("WARNING", "feed failed after 0.0 s with the same Boom, restart 2 in 0.0 s"),
        ]

    async def test_our_host_is_never_cancelled_nor_uncancelled_by_us(self, hosting):
        """`cancelling()` is the same before and after, on success and on failure (gh-116720)."""
        counts = []

        async def service():
            raise Boom

        async def host():
            async def counting():
                counts.append(asyncio.current_task().cancelling())
                with contextlib.suppress(Boom):
                    await feed(service, delays=[0], max_restarts=2)()
                counts.append(asyncio.current_task().cancelling())

            await hosting(counting)

        await asyncio.create_task(host())

        assert counts[0] == counts[1] == (1 if hosting is in_cleanup else 0)


class TestClosed:
    """coro.close() raises GeneratorExit at the await. There it may not be awaited again."""

    def begun(self, coroutine):
        """Run *coroutine* up to its first await, by hand."""
        coroutine.send(None)
        return coroutine

    async def test_during_an_attempt_it_is_cancelled_and_not_waited_for(self, caplog):
        """The attempt may outlive the call: nobody can wait for it any more."""
        service = Service()
        host = self.begun(feed(service)())
        await turns()

        host.close()
        assert not service.tasks[0].done()
        await turns()

        assert service.tasks[0].cancelled()
        assert told(caplog) == []

    @virtual
    @pytest.mark.parametrize("is_cleanup", [False, True])
    async def test_what_the_attempt_raises_afterwards_is_reported(self, is_cleanup, caplog):
        """Nobody awaits it any more, and asyncio would only tell of it when it is let go."""
        coroutines = []

        async def host():
            if is_cleanup:
                asyncio.current_task().cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
            coroutines.append(self.begun(feed(fail_when_cancelled)(Boom())))

        await asyncio.create_task(host())
        await turns()

        coroutines[0].close()
        assert told(caplog) == []
        await turns()

        assert told(caplog) == [OVERTAKEN]

    async def test_during_the_delay_nothing_is_left(self, caplog):
        """The delay ends, and with it the supervision."""

        async def service():
            raise Boom

        host = self.begun(feed(service)())
        if len(caplog.records) == 0:
            await turns()
            # The attempt is over: go on to the delay.
            host.send(None)

        host.close()

        assert told(caplog) == [RESTARTING]
        assert len(asyncio.all_tasks()) == 1

    @virtual
    async def test_just_when_the_attempt_has_failed_the_failure_is_reported(self, caplog):
        """It was not awaited any more, and there must be no second await: "coroutine ignored GeneratorExit"."""
        gate = asyncio.get_running_loop().create_future()
        host = self.begun(feed(after)(gate, Boom()))
        gate.set_result(None)
        await turns()

        host.close()

        assert told(caplog) == [OVERTAKEN]

    async def test_just_when_the_attempt_has_returned_nothing_follows(self, caplog):
        """No restart, even under "always"."""
        gate = asyncio.get_running_loop().create_future()
        host = self.begun(feed(after, restart="always")(gate))
        gate.set_result(None)
        await turns()

        host.close()

        assert told(caplog) == []

    @virtual
    async def test_in_a_cleanup_it_is_no_different(self, caplog):
        """There the wait is for a future of our own."""
        service = Service()
        coroutines = []

        async def host():
            asyncio.current_task().cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            coroutines.append(self.begun(feed(service)()))
            coroutines.append(self.begun(feed(after)(asyncio.sleep(0), Boom())))

        await asyncio.create_task(host())
        await turns()

        for coroutine in coroutines:
            coroutine.close()
        await turns()

        assert service.tasks[0].cancelled()
        assert told(caplog) == [OVERTAKEN]

    async def test_another_exception_thrown_in_ends_it_too(self, caplog):
        """As coro.throw() does: it is no outcome of the attempt, which is cancelled."""
        service = Service()
        host = self.begun(feed(service)())
        await turns()

        with pytest.raises(Bang):
            host.throw(Bang())
        await turns()

        assert service.tasks[0].cancelled()
        assert told(caplog) == []

    async def test_a_cancelled_error_thrown_in_is_a_stop(self, caplog):
        """Although no count tells so: the attempt is not cancelled yet, so it cannot have come from there."""
        service = Service()
        host = self.begun(feed(service)())
        await turns()

        with pytest.raises(asyncio.CancelledError):
            host.throw(asyncio.CancelledError())
        await turns()

        assert service.tasks[0].cancelled()
        assert told(caplog) == [STOPPED]

    def close_after_its_loop(self, loop_factory, hosting, service, no_leaks):
        """Start the supervision of *service* on a loop, close the loop when that is stopped, then the host."""
        hosts = []

        async def main():
            hosts.append(await start(hosting(feed(service))))
            await turns()
            asyncio.get_running_loop().stop()
            await forever()

        loop = loop_factory()
        left = loop.create_task(main())
        loop.run_forever()
        loop.close()
        coroutine = hosts.pop().get_coro()
        coroutine.close()

        # asyncio's own line about the tasks that were pending when their loop was closed.
        del left, coroutine
        gc.collect()
        assert {record.getMessage().splitlines()[0] for record in no_leaks.errors} == {
            "Task was destroyed but it is pending!"
        }
        no_leaks.errors.clear()

    @each_loop
    def test_in_an_attempt_after_its_loop_it_ends_in_silence(self, loop_factory, hosting, no_leaks, caplog):
        """As when the garbage collector finds it there. Nothing can run any more, so nothing is tried."""
        self.close_after_its_loop(loop_factory, hosting, forever, no_leaks)

        assert told(caplog) == []

    @each_loop
    def test_in_the_delay_after_its_loop_it_ends_in_silence(self, loop_factory, hosting, no_leaks, caplog):
        """The timer of the delay went with the loop."""

        async def service():
            raise Boom

        self.close_after_its_loop(loop_factory, hosting, service, no_leaks)

        assert told(caplog) == [RESTARTING]

    # uvloop does not stop before it has run what is ready, the host among it.
    @pytest.mark.parametrize("loop", factories(virtual=False).keys() - {"uvloop"})
    def test_between_the_two_after_its_loop_the_failure_is_reported(self, loop, hosting, no_leaks, caplog):
        """The attempt has failed, the host never heard of it. Nor would anybody else."""

        async def service():
            await turns()
            asyncio.get_running_loop().stop()
            raise Boom

        self.close_after_its_loop(factories(virtual=False)[loop], hosting, service, no_leaks)

        assert told(caplog) == [OVERTAKEN]
