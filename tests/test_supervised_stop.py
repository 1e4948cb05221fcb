"""`@supervised` being stopped: whoever awaits it is cancelled, at every moment that there is."""

from __future__ import annotations

import asyncio

import pytest
from services import Service, Stubborn, end_of, feed, in_cleanup, plainly, raise_or_return, told
from tools import Boom, forever, start, turns

from async_plus.testing import record_events

pytestmark = pytest.mark.usefixtures("infos_are_logged")

virtual = pytest.mark.virtual_time
# Eager tasks have begun when they are made.
not_eager = pytest.mark.asyncio(loop_factories=["default", "debug", "uvloop"])

STOPPED = ("INFO", "feed stopped, attempt 1")
STOPPED_IN_DELAY = ("INFO", "feed stopped, before restart 1")
OVERTAKEN = ("WARNING", "feed failed after 0.0 s with Boom, not restarted: it is being stopped")
RESTARTING = ("WARNING", "feed failed after 0.0 s with Boom, restart 1 in 600.0 s")


class TestDuringAnAttempt:
    async def test_the_attempt_is_cancelled_and_nothing_is_restarted(self, hosting, caplog):
        """A stop reaches the attempt as a plain await would pass it on, message and all, and is the end."""
        service = Service()
        host = await start(hosting(feed(service)))

        host.cancel("going home")
        await turns()

        with pytest.raises(asyncio.CancelledError) as caught:
            await host
        assert caught.value.args == ("going home",)
        assert service.cancellations == [("going home",)]
        assert len(service.tasks) == 1
        assert service.tasks[0].cancelled()
        assert told(caplog) == [STOPPED]

    async def test_the_caller_waits_until_the_attempt_has_stopped(self, hosting):
        """Its cleanup may take its time; nothing runs on when the cancellation comes out."""
        cleaned_up = asyncio.get_running_loop().create_future()

        async def service():
            try:
                await forever()
            finally:
                await cleaned_up

        host = await start(hosting(feed(service)))
        host.cancel()
        await turns()
        assert not host.done()

        cleaned_up.set_result(None)
        assert await end_of(host) == "cancelled"

    async def test_each_cancellation_reaches_the_attempt(self, hosting):
        """The second and the third as well as the first, as with a plain await."""
        service = Stubborn()
        host = await start(hosting(feed(service)))
        before = host.cancelling()

        for number in range(3):
            host.cancel(number)
            await turns()
        # However many they are, one of ours waits.
        assert len(service.tasks[0]._callbacks) == 1
        service.order.set_result("done")

        assert await end_of(host) == "done"
        assert service.cancellations == [(0,), (1,), (2,)]
        assert host.cancelling() == before + 3

    async def test_two_cancellations_at_once_are_passed_on(self, hosting):
        """Before the attempt had a chance to notice the first one."""
        service = Service()
        host = await start(hosting(feed(service)))

        host.cancel()
        host.cancel()

        assert await end_of(host) == "cancelled"
        assert len(service.tasks) == 1

    async def test_a_swallowed_cancellation_ends_with_the_value_of_the_service(self, hosting, caplog):
        """Even where a return would be followed by a restart."""
        service = Stubborn()
        host = await start(hosting(feed(service, restart="always")))

        host.cancel()
        await turns()
        service.order.set_result("my last words")

        assert await end_of(host) == "my last words"
        assert len(service.tasks) == 1
        assert told(caplog) == [STOPPED]

    async def test_an_error_of_the_cleanup_propagates(self, hosting, caplog):
        """It is raised to whoever stopped the service, so it is not reported as well, and never restarted."""
        service = Stubborn()
        error = Boom()
        host = await start(hosting(feed(service)))

        host.cancel()
        await turns()
        service.order.set_exception(error)

        assert await end_of(host) is error
        assert getattr(error, "__notes__", []) == []
        assert len(service.tasks) == 1
        assert told(caplog) == [STOPPED]

    async def test_the_predicate_is_not_asked_about_an_error_of_the_cleanup(self, hosting):
        """A stop is never followed by a restart, so there is nothing to ask."""
        asked = []
        service = Stubborn()
        host = await start(hosting(feed(service, on=asked.append)))

        host.cancel()
        await turns()
        service.order.set_exception(Boom())

        assert isinstance(await end_of(host), Boom)
        assert asked == []

    @not_eager
    async def test_stopped_before_the_first_step_the_service_never_runs(self, caplog):
        """The attempt is a task, and is cancelled before it starts."""
        service = Service()
        host = asyncio.create_task(feed(service)())
        await asyncio.sleep(0)
        assert "feed#1" in {task.get_name() for task in asyncio.all_tasks()}
        host.cancel()

        assert await end_of(host) == "cancelled"
        assert service.tasks == []
        assert told(caplog) == [STOPPED]

    @not_eager
    async def test_a_host_that_is_stopped_before_it_starts_starts_nothing(self, caplog):
        """As with any coroutine. There is nothing to report."""
        service = Service()
        host = asyncio.create_task(feed(service)())
        host.cancel()

        assert await end_of(host) == "cancelled"
        assert service.tasks == []
        assert told(caplog) == []

    @pytest.mark.asyncio(loop_factories=["eager"])
    async def test_an_eager_attempt_may_stop_its_host_in_its_first_step(self, caplog):
        """The host is still running then. An attempt that goes on to fail has failed in its cleanup."""
        hosts = []

        async def service():
            hosts[0].cancel()
            raise Boom

        async def host():
            hosts.append(asyncio.current_task())
            await feed(service)()

        task = asyncio.create_task(host())

        assert isinstance(await end_of(task), Boom)
        assert told(caplog) == [STOPPED]

    async def test_inside_another_supervision_both_are_stopped(self, hosting, caplog):
        """The stop goes down through all levels, and no level restarts."""
        service = Service()
        inner = feed(service, name="inner")
        host = await start(hosting(feed(inner, name="outer")))

        host.cancel()

        assert await end_of(host) == "cancelled"
        assert len(service.tasks) == 1
        assert told(caplog) == [("INFO", "inner stopped, attempt 1"), ("INFO", "outer stopped, attempt 1")]

    @virtual
    async def test_one_attempt_of_two_levels_can_be_cancelled_by_itself(self, hosting, caplog):
        """The inner supervision is stopped by it, the outer one sees an unexpected cancellation and restarts."""
        service = Service()
        outer_tasks = []

        async def outer():
            outer_tasks.append(asyncio.current_task())
            return await feed(service, name="inner")()

        host = await start(hosting(feed(outer, delays=[0], name="outer")))
        outer_tasks[0].cancel()
        await turns(10)
        service.order.set_result("done")

        assert await end_of(host) == "done"
        assert len(service.tasks) == len(outer_tasks) == 2
        assert told(caplog) == [
            ("INFO", "inner stopped, attempt 1"),
            ("WARNING", "outer failed after 0.0 s with UnexpectedCancellation, restart 1 in 0.0 s"),
        ]


def before_the_host_is_called(host):
    # The callbacks of the attempt are scheduled when this step of it is over.
    asyncio.get_running_loop().call_soon(host.cancel, "late")


def before_the_host_runs(host):
    # After the callback by which the host was called.
    asyncio.current_task().add_done_callback(lambda _: host.cancel("late"))


# The attempt has ended, and the host does not know yet. A plain await runs the host where it calls it.
MOMENTS = [
    (plainly, before_the_host_is_called),
    (in_cleanup, before_the_host_is_called),
    (in_cleanup, before_the_host_runs),
]


class TestInTheSameTickAsTheAttemptEnds:
    @pytest.fixture(params=MOMENTS, ids=lambda param: " ".join(part.__name__ for part in param))
    def late_stop(self, request):
        """Start a service that ends as told, with its host cancelled at that very moment; return the host."""
        hosting, cancel = request.param

        async def run(end, **options):
            gate = asyncio.get_running_loop().create_future()

            async def service():
                await gate
                cancel(host)
                return end()

            host = await start(hosting(feed(service, **options)))
            gate.set_result(None)
            return host

        return run

    @virtual
    async def test_a_failure_is_reported_and_the_cancellation_raised(self, late_stop, caplog):
        """Nobody else would ever see the failure. It says that no restart follows."""
        error = Boom()
        host = await late_stop(lambda: raise_or_return(error))

        with pytest.raises(asyncio.CancelledError) as caught:
            await host

        assert caught.value.args == ("late",)
        assert told(caplog) == [OVERTAKEN, STOPPED]
        assert caplog.records[0].exc_info[1] is error

    async def test_a_return_is_overtaken_by_the_cancellation(self, late_stop, caplog):
        """As it is with a plain await."""
        host = await late_stop(lambda: "done", restart="always")

        assert await end_of(host) == "cancelled"
        assert told(caplog) == [STOPPED]

    async def test_a_cancellation_by_somebody_else_is_overtaken_by_the_stop(self, late_stop, caplog):
        """It is no unexpected one any more."""
        host = await late_stop(lambda: raise_or_return(asyncio.CancelledError("inner")))

        assert await end_of(host) == "cancelled"
        assert told(caplog) == [STOPPED]

    @virtual
    async def test_an_error_of_the_cleanup_and_a_second_stop_lose_neither(self, hosting, caplog):
        """The second cancellation comes out, the error is reported."""
        service = Stubborn()
        error = Boom()
        host = await start(hosting(feed(service)))
        host.cancel("first")
        await turns()

        service.order.set_exception(error)
        await asyncio.sleep(0)  # the attempt ends here
        host.cancel("second")

        assert await end_of(host) == "cancelled"
        assert told(caplog) == [OVERTAKEN, STOPPED]
        assert caplog.records[0].exc_info[1] is error

    async def test_a_value_after_a_swallowed_stop_is_overtaken_by_a_second_one(self, hosting, caplog):
        """Otherwise the second cancellation would be lost, which nobody has swallowed."""
        service = Stubborn()
        host = await start(hosting(feed(service)))
        host.cancel("first")
        await turns()

        service.order.set_result("done")
        await asyncio.sleep(0)  # the attempt ends here
        host.cancel("second")

        with pytest.raises(asyncio.CancelledError) as caught:
            await host
        assert caught.value.args == ("second",)
        assert told(caplog) == [STOPPED]

    @virtual
    async def test_a_stop_in_the_last_step_of_the_attempt_loses_nothing(self, hosting, caplog):
        """A plain await tells the attempt before it fails, so that this is an error of its cleanup, and propagates."""
        gate = asyncio.get_running_loop().create_future()

        async def service():
            await gate
            host.cancel()
            raise Boom

        host = await start(hosting(feed(service)))
        gate.set_result(None)
        end = await end_of(host)

        if hosting is plainly:
            assert isinstance(end, Boom)
            assert told(caplog) == [STOPPED]
        else:
            # The cancellation goes through the host, which runs when the attempt is over.
            assert end == "cancelled"
            assert told(caplog) == [OVERTAKEN, STOPPED]


class TestDuringTheDelay:
    async def failed(self, hosting, **options):
        """Start a service that fails at once, and return its host in the delay."""
        attempts = []

        async def service():
            attempts.append(asyncio.current_task())
            raise Boom

        host = await start(hosting(feed(service, **options)))
        return host, attempts

    async def test_the_cancellation_is_raised_at_once(self, hosting, caplog):
        """Nothing runs then that would have to be waited for."""
        host, attempts = await self.failed(hosting)

        host.cancel("going home")
        with pytest.raises(asyncio.CancelledError) as caught:
            await host

        assert caught.value.args == ("going home",)
        assert len(attempts) == 1
        assert told(caplog) == [RESTARTING, STOPPED_IN_DELAY]

    async def test_a_delay_of_no_time_can_be_stopped_too(self, hosting, caplog):
        """A service that fails at once and restarts at once does not keep its host from being cancelled."""
        host, attempts = await self.failed(hosting, delays=[0])

        host.cancel()

        assert await end_of(host) == "cancelled"
        assert told(caplog)[-1][1].startswith("feed stopped, ")
        count = len(attempts)
        await turns()
        assert len(attempts) == count

    @virtual
    async def test_at_the_very_end_of_the_delay_it_is_a_stop_all_the_same(self, hosting):
        """The timer has fired, the next attempt has not started."""
        loop = asyncio.get_running_loop()
        attempts = []

        async def service():
            attempts.append(True)
            raise Boom

        host = await start(hosting(feed(service, delays=[10])))
        loop.call_later(10, host.cancel)

        assert await end_of(host) == "cancelled"
        assert len(attempts) == 1

    @pytest.mark.parametrize("delays", [[0], [600]])
    async def test_the_predicate_may_stop_the_host(self, delays, hosting, caplog):
        """Or a subscriber: whoever does it while the host decides about the restart is heard in the delay."""
        attempts = []

        async def service():
            attempts.append(True)
            raise Boom

        async def host():
            task = asyncio.current_task()
            await hosting(feed(service, delays=delays, on=lambda exc: task.cancel()))

        assert await end_of(asyncio.create_task(host())) == "cancelled"
        assert len(attempts) == 1
        assert told(caplog)[-1] == STOPPED_IN_DELAY


class TestEvents:
    async def test_a_stop_is_told_with_the_number_of_the_attempt(self, hosting):
        """Subscribers hear of it whatever the log shows."""
        attempts = []

        async def service():
            attempts.append(True)
            if len(attempts) < 3:
                raise Boom
            await forever()

        with record_events() as events:
            host = await start(hosting(feed(service, delays=[0])))
            await turns(20)
            host.cancel()
            await end_of(host)

        assert str(events[-1]) == "feed stopped, attempt 3"
        assert (events[-1].service, events[-1].attempt) == ("feed", 3)
