"""`heartbeat` and `ready`: services that tell of themselves, and what becomes of those that fall silent."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import logging
import threading
import time
import weakref

import pytest
from places import at
from services import end_of, in_cleanup, plainly, told
from tools import (
    Bang,
    Boom,
    elapsed,
    fail_when_cancelled,
    forever,
    no_garbage_of_reports,
    outlast,
    refused,
    start,
    turns,
)

from async_plus import (
    AttemptFailed,
    AttemptHung,
    AttemptReady,
    GaveUp,
    Hung,
    StuckTasks,
    Supervisor,
    cancel_and_wait,
    heartbeat,
    ready,
    supervised,
    task_scope,
    watched,
)
from async_plus.engine.per_loop import per_loop
from async_plus.supervision import vitals
from async_plus.supervision.vitals import Vitals
from async_plus.testing import record_events

virtual = pytest.mark.virtual_time


def vitals_here():
    return per_loop(asyncio.get_running_loop(), Vitals)


class Beating:
    """A service that beats at the given times after its start, and hangs after the last one."""

    def __init__(self, *beats):
        self.beats = beats
        self.started, self.ended = [], []

    async def __call__(self):
        self.started.append(elapsed())
        try:
            for seconds in self.beats:
                await asyncio.sleep(seconds)
                heartbeat()
            await self.hang()
        finally:
            self.ended.append(elapsed())

    async def hang(self):
        await asyncio.Event().wait()


@virtual
class TestHeartbeat:
    async def test_a_silent_attempt_is_reported_cancelled_and_restarted(self, caplog):
        """The report names the line and what it is parked on; the failure is a Hung, and follows its end."""
        service = Beating(20, 25)
        host = asyncio.create_task(supervised(heartbeat=30, delays=[5], name="feed")(service)())
        await asyncio.sleep(100)
        host.cancel()
        await asyncio.wait([host])

        where = at(Beating.hang, "asyncio.Event")
        assert told(caplog) == [
            (
                "WARNING",
                f"feed hangs: no heartbeat for 30.0 s, attempt 1 is parked at {where} on Event.wait and is cancelled",
            ),
            ("WARNING", "feed failed after 75.0 s with Hung, restart 1 in 5.0 s"),
        ]
        assert service.started == [0, 80]
        assert service.ended == [75, 100]

    async def test_its_record_carries_the_place_and_the_facts(self, caplog):
        """Its line is the one it is parked at; the facts stand beside the text."""
        host = asyncio.create_task(supervised(heartbeat=30, delays=[600], name="feed")(Beating())())
        with record_events() as events:
            await asyncio.sleep(31)
        host.cancel()
        await asyncio.wait([host])

        *_, hung, failed = events
        record = caplog.records[0]
        assert (record.pathname, record.lineno, record.funcName) == (
            hung.parked.place.filename,
            hung.parked.place.lineno,
            "hang",
        )
        assert (hung.service, hung.attempt, hung.silent_for, hung.parked.on) == ("feed", 1, 30, "Event.wait")
        assert failed.failed_at == hung.parked.place

    async def test_the_error_says_what_happened_and_leads_to_how_it_ended(self):
        """A Hung is a TimeoutError; its cause is the cancellation, with the line it was parked at."""
        with pytest.raises(Hung) as caught:
            await supervised(heartbeat=30, restart="never", name="feed")(Beating())()

        where = at(Beating.hang, "asyncio.Event")
        assert str(caught.value) == f"feed gave no heartbeat for 30.0 s, parked at {where} on Event.wait"
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)

    async def test_one_that_beats_in_time_is_left_alone(self, caplog):
        """However long it runs, and however often it beats."""
        service = Beating(*[29] * 20, *[0] * 100)
        host = asyncio.create_task(supervised(heartbeat=30, name="feed")(service)())
        await asyncio.sleep(29 * 20 + 29)

        assert service.ended == []
        host.cancel()
        assert await end_of(host) == "cancelled"
        assert told(caplog) == []

    async def test_a_fault_of_its_cleanup_is_the_cause(self, caplog):
        """It failed for being hung, and what it raised on the way down is not lost."""

        async def feed():
            try:
                await forever()
            finally:
                raise Boom

        with record_events() as events:
            host = asyncio.create_task(supervised(heartbeat=1, delays=[600], name="feed")(feed)())
            await asyncio.sleep(2)
            host.cancel()
            await asyncio.wait([host])

        [failed] = [event for event in events if isinstance(event, AttemptFailed)]
        assert type(failed.exception) is Hung
        assert type(failed.exception.__cause__) is Boom

    async def test_a_value_it_returns_on_the_way_down_counts_for_nothing(self):
        """It swallowed a cancellation that was no stop: it failed."""
        starts = []

        @supervised(heartbeat=1, delays=[3])
        async def feed():
            starts.append(elapsed())
            if len(starts) == 1:
                try:
                    await forever()
                except asyncio.CancelledError:
                    return "gone"
            return "well"

        assert await feed() == "well"
        assert starts == [0, 4]

    async def test_one_that_ignores_its_cancellation_is_named_again_and_has_no_twin(self, caplog):
        """After 5 seconds and at doubling gaps, until it has ended; only then it is restarted."""
        released = asyncio.get_running_loop().create_future()
        starts = []

        @supervised(heartbeat=10, delays=[0], name="feed")
        async def feed():
            starts.append(elapsed())
            if len(starts) == 1:
                await outlast(released)
                raise Boom
            return "well"

        host = asyncio.create_task(feed())
        with record_events() as events:
            await asyncio.sleep(47)
            assert starts == [0]
            assert vitals_here().overdue()
            released.set_result(None)
            assert await host == "well"

        stuck = [event for event in events if isinstance(event, StuckTasks)]
        assert [(event.owner, event.after, event.tasks[0].name) for event in stuck] == [
            ("@supervised feed", 5, "feed#1"),
            ("@supervised feed", 15, "feed#1"),
            ("@supervised feed", 35, "feed#1"),
        ]
        assert starts == [0, 47]
        assert not vitals_here().overdue()

    async def test_a_stop_of_a_hung_attempt_is_a_stop(self, caplog):
        """Also when it comes while the attempt goes down: nothing is restarted."""
        released = asyncio.get_running_loop().create_future()
        feed = supervised(heartbeat=1, delays=[0], name="feed")(functools.partial(outlast, released))
        host = asyncio.create_task(feed())
        await asyncio.sleep(2)
        host.cancel()
        await turns()
        assert not host.done()
        released.set_result("last")

        assert await host == "last"
        assert [text for _, text in told(caplog)][1:] == []

    @pytest.mark.parametrize("hosting", [plainly, in_cleanup])
    async def test_one_that_is_being_stopped_may_take_its_time(self, hosting, caplog):
        """It gives no heartbeat in its cleanup, and is cancelled once: it does not hang."""
        cancellations = []

        @supervised(heartbeat=10, name="feed")
        async def feed():
            try:
                await forever()
            except asyncio.CancelledError:
                cancellations.append(elapsed())
                await asyncio.sleep(60)
                raise

        host = asyncio.create_task(hosting(feed))
        await asyncio.sleep(5)
        host.cancel()
        assert await end_of(host) == "cancelled"
        assert (cancellations, elapsed()) == ([5], 65)
        assert told(caplog) == []

    @pytest.mark.parametrize("on", [OSError, lambda exc: False], ids=["types", "predicate"])
    async def test_it_always_calls_for_a_restart(self, on):
        """Whatever `on` names, since the service never had a say; within a group, too."""
        starts = []

        @supervised(heartbeat=1, delays=[0], on=on, max_restarts=2)
        async def feed():
            starts.append(elapsed())
            await forever()

        with pytest.raises(Hung):
            await feed()
        assert starts == [0, 1, 2]

    @pytest.mark.parametrize("reset_after", [50, 0])
    async def test_a_hung_attempt_never_counts_as_stable(self, reset_after, caplog):
        """Its time shows nothing: the delays grow, and the limit is reached."""
        service = Beating(*[9] * 100)
        with record_events() as events, pytest.raises(Hung):
            retry = supervised(heartbeat=10, delays=[0, 100], reset_after=reset_after, max_restarts=2, name="feed")
            await retry(service)()

        assert service.started == [0, 910, 1920]
        [gave_up] = [event for event in events if isinstance(event, GaveUp)]
        assert gave_up.restarts == 2

    async def test_every_attempt_starts_with_its_full_time(self):
        """The silence of the last one, and of the delay, is not held against it."""
        service = Beating(8)
        host = asyncio.create_task(supervised(heartbeat=10, delays=[100])(service)())
        await asyncio.sleep(300)
        host.cancel()
        await asyncio.wait([host])

        assert service.started == [0, 118, 236]

    async def test_tasks_that_the_service_starts_beat_for_it(self, caplog):
        """They inherit its context."""

        async def pulse():
            while True:
                await asyncio.sleep(5)
                heartbeat()

        @supervised(heartbeat=10)
        async def feed():
            async with task_scope() as scope:
                scope.launch(pulse())
                await asyncio.sleep(100)
            return "well"

        assert await feed() == "well"
        assert told(caplog) == []

    async def test_what_outlives_an_attempt_does_not_beat_for_the_next_one(self):
        """A task that the first attempt left behind says nothing of the second one."""
        starts, left = [], []

        @watched
        async def pulse():
            while True:
                await asyncio.sleep(5)
                heartbeat()
                ready()

        @supervised(heartbeat=10, ready=True, delays=[0], max_restarts=1)
        async def feed():
            starts.append(elapsed())
            if len(starts) == 1:
                left.append(pulse())
                await asyncio.sleep(20)
                raise Boom
            await forever()

        with record_events() as events, pytest.raises(Hung):
            await feed()
        left[0].cancel()
        await asyncio.wait(left)

        assert elapsed() == 30
        assert [event.attempt for event in events if isinstance(event, AttemptReady)] == [1]

    async def test_the_nearest_attempt_that_declared_one_is_meant(self):
        """Those in between that declared none are passed over, and so is an outer one that did."""
        ends = []

        @supervised(ready=True)
        async def inner():
            for _ in range(10):
                await asyncio.sleep(9)
                heartbeat()

        @supervised(heartbeat=10)
        async def outer():
            await inner()
            ends.append(elapsed())

        @supervised(heartbeat=10, max_restarts=0)
        async def outermost():
            await outer()

        with pytest.raises(Hung):
            await outermost()
        assert ends == []
        assert elapsed() == 10

    async def test_two_calls_of_one_function_have_nothing_in_common(self):
        """One beats, the other hangs."""

        @supervised(heartbeat=10, restart="never")
        async def feed(beats):
            for _ in range(10):
                await asyncio.sleep(5)
                if beats:
                    heartbeat()
            return "well"

        ends = await asyncio.gather(feed(True), feed(False), return_exceptions=True)

        assert ends[0] == "well"
        assert type(ends[1]) is Hung

    async def test_who_could_not_run_could_not_beat(self, caplog):
        """A blocked loop is no fault of the service: it gets that time once more, at most one heartbeat, and once."""
        clock = asyncio.get_running_loop().clock
        service = Beating(8)
        host = asyncio.create_task(supervised(heartbeat=10, delays=[600], name="feed")(service)())
        await asyncio.sleep(11)
        clock.jump(clock.time() + 14)  # a step that takes 14 seconds: the beat was due at 18
        await asyncio.sleep(0)
        await asyncio.sleep(6.5)  # granted until 25 + 7
        assert service.ended == []
        await asyncio.sleep(1)

        assert service.ended == [32]
        host.cancel()
        await asyncio.wait([host])
        assert told(caplog)[-1] == ("WARNING", "feed failed after 32.0 s with Hung, restart 1 in 600.0 s")

    async def test_a_loop_that_is_blocked_again_and_again_gives_that_time_once(self):
        """Until it beats: a service that hangs is not kept alive by what blocks the loop."""
        loop = asyncio.get_running_loop()
        service = Beating()
        host = asyncio.create_task(supervised(heartbeat=10, delays=[600])(service)())
        for when in (5, 28):
            loop.call_later(when, lambda: loop.clock.jump(loop.time() + 20))
        await asyncio.sleep(100)

        # Due at 10, granted until 35; looked at when the loop could run, at 25 and at 48.
        assert service.ended == [48]
        host.cancel()
        await asyncio.wait([host])

    async def test_an_attempt_that_ends_in_the_turn_in_which_it_is_due_has_not_hung(self):
        """Its last step was before the look at it."""
        loop = asyncio.get_running_loop()
        released = loop.create_future()

        @supervised(heartbeat=10)
        async def feed():
            await released
            return "well"

        def release():
            released.set_result(None)
            loop.clock.jump(loop.time() + 1)

        loop.call_later(9, release)
        with record_events() as events:
            assert await feed() == "well"
        assert not any(isinstance(event, AttemptHung) for event in events)
        assert elapsed() == 10

    async def test_after_a_blocked_loop_a_beat_is_as_good_as_ever(self):
        """The time that it was given is gone with it."""
        clock = asyncio.get_running_loop().clock
        service = Beating(8, 20)
        host = asyncio.create_task(supervised(heartbeat=10, delays=[600])(service)())
        await asyncio.sleep(9)
        clock.jump(clock.time() + 40)
        await asyncio.sleep(0)
        await asyncio.sleep(20)

        assert service.ended == [59]
        host.cancel()
        await asyncio.wait([host])

    async def test_a_beat_may_come_from_a_thread(self):
        """`asyncio.to_thread` takes the context along."""

        @supervised(heartbeat=10, restart="never")
        async def feed():
            for _ in range(5):
                await asyncio.sleep(8)
                await asyncio.to_thread(heartbeat)
            return "well"

        assert await feed() == "well"
        assert elapsed() == 40

    async def test_nobody_is_meant_outside_of_an_attempt(self):
        """Nor in one that declared nothing: the calls do nothing."""
        heartbeat()
        ready()

        @supervised
        async def feed():
            heartbeat()
            ready()
            return "well"

        with record_events() as events:
            assert await feed() == "well"
        assert not any(isinstance(event, AttemptReady) for event in events)

    async def test_a_failure_before_the_check_is_that_failure(self, caplog):
        """An attempt that ended in a step so long that its beat was due in the meantime is not hung."""
        clock = asyncio.get_running_loop().clock

        async def service():
            await asyncio.sleep(1)
            clock.jump(clock.time() + 60)
            raise Boom

        host = asyncio.create_task(in_cleanup(supervised(heartbeat=10, delays=[600], name="feed")(service)))
        await asyncio.sleep(62)
        host.cancel()
        await asyncio.wait([host])

        assert told(caplog) == [("WARNING", "feed failed after 61.0 s with Boom, restart 1 in 600.0 s")]

    async def test_the_failure_of_a_hung_attempt_is_told_once(self, caplog):
        """Whoever else cancels its task and waits for it leaves that to the supervision."""
        tasks = []

        @supervised(heartbeat=10, delays=[600], name="feed")
        async def feed():
            tasks.append(asyncio.current_task())
            try:
                await forever()
            except asyncio.CancelledError:
                await fail_when_cancelled(Boom())

        host = asyncio.create_task(feed())
        await asyncio.sleep(11)
        await cancel_and_wait(*tasks)
        await asyncio.sleep(1)
        host.cancel()
        await asyncio.wait([host])

        assert [text for _, text in told(caplog)][1:] == ["feed failed after 11.0 s with Hung, restart 1 in 600.0 s"]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_of_a_hung_attempt_passes(kind):
    """It ends the program, and is no failure of the service."""

    async def feed():
        try:
            await forever()
        finally:
            raise kind(3)

    loop = asyncio.new_event_loop()
    host = loop.create_task(supervised(heartbeat=0.001, delays=[0])(feed)())
    # The loop raises it, and then the host does.
    for _ in range(2):
        with pytest.raises(kind):
            loop.run_until_complete(host)
    assert isinstance(host.exception(), kind)
    loop.close()


class TestClock:
    def test_a_clock_that_stands_still_during_a_step_is_no_clock_for_beats(self, monkeypatch):
        """uvloop reads its own once in each round: a beat late in a long step would be dated back."""
        now = [100.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])

        class Compiled:
            def __call__(self):
                return 42

        class Loop:
            # Not a function of Python's, as that of uvloop is none.
            time = Compiled()

        clock = vitals._clock_of(Loop())
        assert clock() == 42
        now[0] += 5
        assert clock() == 47


@virtual
class TestReady:
    async def test_the_first_call_of_an_attempt_counts(self, caplog):
        """It is reported with its time; later calls do nothing, and the next attempt is not ready yet."""
        caplog.set_level(logging.INFO, logger="async_plus")
        host = asyncio.current_task()

        @supervised(ready=True, delays=[0], name="feed", max_restarts=1)
        async def feed():
            await asyncio.sleep(1.5)
            assert vitals_here().unready()
            ready()
            ready()
            assert not vitals_here().unready()
            raise Boom

        with record_events() as events, pytest.raises(Boom):
            await feed()

        assert told(caplog)[:2] == [
            ("INFO", "feed is ready after 1.5 s, attempt 1"),
            ("WARNING", "feed failed after 1.5 s with Boom, restart 1 in 0.0 s"),
        ]
        found = [(event.attempt, event.after) for event in events if isinstance(event, AttemptReady)]
        assert found == [(1, 1.5), (2, 1.5)]
        assert host.cancelling() == 0

    async def test_a_service_in_its_delay_is_not_ready(self):
        """Neither before its first call, nor when the ready attempt is gone. One that has ended is not asked."""

        @supervised(ready=True, delays=[100])
        async def feed():
            ready()
            await asyncio.sleep(1)
            raise Boom

        heard = []
        vitals_here().on_ready = lambda: heard.append(vitals_here().unready())
        host = await start(feed())
        assert not vitals_here().unready()
        await asyncio.sleep(50)
        assert vitals_here().unready()
        host.cancel()
        await asyncio.wait([host])

        assert not vitals_here().unready()
        assert heard == [False, False]

    async def test_a_child_that_was_stopped_is_not_asked_any_more(self):
        """Of a supervisor. Otherwise systemd would never hear that the program is ready."""

        @supervised(ready=True)
        async def feed():
            await forever()

        async with Supervisor("shop") as sup:
            starting = asyncio.create_task(sup.start(feed))
            await turns()
            assert vitals_here().unready()
            await sup.children[0].stop()
            await starting
            assert not vitals_here().unready()

    async def test_it_may_be_called_in_a_thread(self):
        """The service becomes ready on its loop."""
        threads = []
        vitals_here().on_ready = lambda: threads.append(threading.current_thread())

        @supervised(ready=True)
        async def feed():
            await asyncio.to_thread(ready)
            await asyncio.sleep(1)

        await feed()
        assert threads == [threading.current_thread()] * 2

    async def test_a_thread_that_outlives_its_loop_tells_nobody(self):
        """The call does nothing."""
        contexts = []

        async def feed():
            contexts.append(contextvars.copy_context())

        def on_a_loop_of_its_own():
            asyncio.run(supervised(ready=True)(feed)())
            contexts[0].run(ready)

        await asyncio.to_thread(on_a_loop_of_its_own)
        assert len(contexts) == 1

    async def test_one_that_is_ready_after_its_end_is_not(self):
        """A call that a thread makes too late is dropped."""
        contexts = []

        @supervised(ready=True)
        async def feed():
            contexts.append(contextvars.copy_context())

        with record_events() as events:
            await feed()
            contexts[0].run(ready)
            await asyncio.to_thread(contexts[0].run, ready)
            await turns()
        assert not any(isinstance(event, AttemptReady) for event in events)


class TestMemory:
    @virtual
    async def test_nothing_of_an_attempt_is_kept(self):
        """A hung one, too, is gone with all its variables when the next one starts, without the garbage collector."""

        class Thing:
            pass

        things = []

        async def hang():
            thing = Thing()
            things.append(weakref.ref(thing))
            await forever()

        with no_garbage_of_reports():
            host = asyncio.create_task(supervised(heartbeat=1, ready=True, delays=[0, 600])(hang)())
            await asyncio.sleep(2.5)
            assert [thing() for thing in things] == [None, None]
        host.cancel()
        await asyncio.wait([host])
        assert vitals_here()._services == {}

    async def test_a_task_factory_that_fails_leaves_nothing(self):
        """Its error comes out, and no signs are kept."""
        loop = asyncio.get_running_loop()

        def factory(loop, coro, **options):
            raise Bang

        before = loop.get_task_factory()
        loop.set_task_factory(factory)
        coro = supervised(heartbeat=1, ready=True)(forever)()
        try:
            with pytest.raises(Bang):
                await coro
        finally:
            loop.set_task_factory(before)
        assert vitals_here()._services == {}
        gc.collect()


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "kind", "message"),
        [
            ({"heartbeat": 0}, ValueError, "heartbeat must be a finite number of seconds > 0, got 0"),
            ({"heartbeat": -1}, ValueError, "heartbeat must be a finite number of seconds > 0, got -1"),
            ({"heartbeat": float("nan")}, ValueError, "heartbeat must be a finite number of seconds > 0, got nan"),
            ({"heartbeat": "5"}, TypeError, "heartbeat must be a number of seconds, got str"),
            ({"heartbeat": True}, TypeError, "heartbeat must be a number of seconds, got bool True"),
            ({"ready": 1}, TypeError, "ready must be True or False, got int 1"),
            ({"ready": None}, TypeError, "ready must be True or False, got NoneType"),
        ],
    )
    def test_options_out_of_range_are_refused(self, options, kind, message):
        """At the decoration, by name."""
        with refused(kind, message):
            supervised(**options)
