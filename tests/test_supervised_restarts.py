"""`@supervised`: when it restarts, after which delay, and when it gives up."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import traceback

import pytest
from services import Scripted, raise_or_return, run
from tools import Bang, Boom, after, give, messages

from async_plus import GaveUp, supervised
from async_plus.testing import record_events

pytestmark = pytest.mark.usefixtures("infos_are_logged")


virtual = pytest.mark.virtual_time


class TestDelays:
    @virtual
    async def test_the_first_restart_comes_at_once_and_later_ones_after_longer_delays(self):
        """By default 0, 1, 10 and 60 seconds, of which the last repeats."""
        script = Scripted(*[Boom()] * 6, "done")

        assert await run(script) == "done"
        assert script.started == [0, 0, 1, 11, 71, 131, 191]

    @virtual
    async def test_a_delay_begins_when_the_attempt_has_ended(self):
        """However long it ran."""
        script = Scripted((5, Boom()), (20, Boom()), "done")

        assert await run(script, delays=[1, 2]) == "done"
        assert script.started == [0, 6, 28]

    @virtual
    async def test_each_delay_grows_by_a_random_part_of_the_shift(self, monkeypatch, caplog):
        """So that many services that failed together do not come back together. `random` is looked up at the call."""
        script = Scripted(Boom(), Boom(), "done")
        service = supervised(delays=[1, 2], random_shift=10, name="feed")(script.run)
        numbers = iter([0.25, 0.5])
        monkeypatch.setattr(random, "random", lambda: next(numbers))

        assert await service() == "done"
        assert script.started == [0, 3.5, 10.5]
        assert [text for _, text in messages(caplog)] == [
            "feed failed after 0.0 s with Boom, restart 1 in 3.5 s",
            "feed failed after 0.0 s with the same Boom, restart 2 in 7.0 s",
        ]

    @virtual
    async def test_without_a_shift_delays_are_exact(self, monkeypatch):
        """No random number is drawn."""
        monkeypatch.setattr(random, "random", None)
        script = Scripted(Boom(), "done")

        await run(script, delays=[7])

        assert script.started == [0, 7]

    @virtual
    async def test_sleep_is_looked_up_at_the_call(self, monkeypatch):
        """Users' tests patch asyncio.sleep, after the service was decorated."""
        slept = []
        script = Scripted(Boom(), Boom(), "done")
        service = supervised(delays=[30, 40])(script.run)
        monkeypatch.setattr(asyncio, "sleep", lambda seconds: give(slept.append(seconds)))

        await service()

        assert slept == [30, 40]
        assert script.started == [0, 0, 0]

    @virtual
    async def test_after_a_stable_run_the_delays_start_over(self):
        """More than reset_after seconds show that the service works; exactly as many do not."""
        script = Scripted(Boom(), (50, Boom()), (50.001, Boom()), Boom(), "done")

        await run(script, delays=[1, 10, 100], reset_after=50)

        # Delays: 1, then 10 as 50 seconds are not enough, then 1 again, then 10.
        assert script.started == [0, 1, 61, 112.001, 122.001]

    @virtual
    async def test_a_stable_run_is_measured_without_the_delay_before_it(self):
        """How long it ran counts. Otherwise delays longer than reset_after would reset themselves."""
        script = Scripted((10, Boom()), (10, Boom()), (10, Boom()), "done")

        await run(script, delays=[20, 100], reset_after=50)

        assert script.started == [0, 30, 140, 250]

    @virtual
    async def test_by_default_a_stable_run_takes_the_longest_delay(self):
        """As long as it would be kept waiting in the worst case."""
        script = Scripted(Boom(), (300, Boom()), (300.5, Boom()), "done")

        await run(script, delays=[1, 2, 300])

        assert script.started == [0, 1, 303, 604.5]

    @virtual
    async def test_by_default_a_stable_run_takes_a_minute_at_least(self):
        """With delays=[0] alone, every run would be stable, and no limit ever reached."""
        script = Scripted((60, Boom()))

        error = await run(script, delays=[0], max_restarts=3)

        assert error.__notes__ == ["gave up on feed after 3 restarts"]
        assert script.started == [0, 60, 120, 180]

    @virtual
    async def test_a_number_from_the_predicate_replaces_the_delay(self, monkeypatch):
        """Without random shift, since the other side said when. The schedule goes on below it all the same."""
        monkeypatch.setattr(random, "random", lambda: 0.5)
        answers = iter([True, 30, 0, True])
        script = Scripted(Boom(), Boom(), Boom(), Boom(), "done")

        await run(script, delays=[1, 2, 3, 4], random_shift=1, on=lambda exc: next(answers))

        assert script.started == [0, 1.5, 31.5, 31.5, 36]

    @virtual
    async def test_a_group_from_a_task_group_is_judged_by_its_leaves(self):
        """As a service with several tasks raises it."""
        started = []

        @supervised(delays=[5], on=OSError)
        async def feed():
            started.append(asyncio.get_running_loop().clock.elapsed)
            async with asyncio.TaskGroup() as group:
                group.create_task(after(asyncio.sleep(0), ConnectionError()))
                if len(started) == 3:
                    group.create_task(after(asyncio.sleep(0), Boom()))

        with pytest.raises(ExceptionGroup) as caught:
            await feed()

        assert sorted(type(leaf).__name__ for leaf in caught.value.exceptions) == ["Boom", "ConnectionError"]
        assert started == [0, 5, 10]


class TestRestart:
    async def test_on_error_a_normal_return_is_the_end(self):
        """Also a return of nothing."""
        assert await supervised(restart="on_error")(give)(5) == 5
        assert await supervised(give)(None) is None

    @virtual
    async def test_always_restarts_after_a_return_through_the_same_delays(self, caplog):
        """A service that returns at once must not spin: its returns and failures share one schedule."""
        script = Scripted("a", Boom(), "b", (2, "c"), Bang())

        error = await run(script, restart="always", on=Boom)

        assert isinstance(error, Bang)
        assert script.started == [0, 0, 1, 11, 73]
        assert messages(caplog) == [
            ("INFO", "feed returned after 0.0 s, restart 1 in 0.0 s"),
            ("WARNING", "feed failed after 0.0 s with Boom, restart 2 in 1.0 s"),
            ("INFO", "feed returned after 0.0 s, restart 3 in 10.0 s"),
            ("INFO", "feed returned after 2.0 s, restart 4 in 60.0 s"),
        ]

    async def test_always_without_a_delay_lets_others_run(self):
        """Even with delays=[0], each restart gives the loop a turn."""
        script = []

        @supervised(restart="always", delays=[0], max_restarts=100)
        async def feed():
            script.append("feed")

        async def other():
            while script.count("feed") < 50:
                script.append("other")
                await asyncio.sleep(0)

        await asyncio.gather(feed(), other())

        assert script.count("other") >= 10

    @virtual
    async def test_always_starts_over_after_a_stable_run(self):
        """A return after a long run is as good as a failure after one."""
        script = Scripted("a", (100, "b"), "c", Bang())

        await run(script, restart="always", on=Boom, delays=[1, 10, 50])

        assert script.started == [0, 1, 102, 112]

    async def test_always_returns_the_last_value_when_it_gives_up(self, caplog):
        """After max_restarts there is no error to raise, but the end is reported."""
        values = iter([1, 2, 3])

        @supervised(restart="always", delays=[0], max_restarts=2, name="feed")
        async def feed():
            return next(values)

        assert await feed() == 3
        assert messages(caplog) == [
            ("INFO", "feed returned after 0.0 s, restart 1 in 0.0 s"),
            ("INFO", "feed returned after 0.0 s, restart 2 in 0.0 s"),
            ("ERROR", "gave up on feed after 2 restarts: the last attempt returned after 0.0 s"),
        ]

    @pytest.mark.parametrize("options", [{"restart": "never"}, {"on": Bang}, {"on": lambda exc: False}])
    async def test_an_error_that_calls_for_no_restart_propagates_untouched(self, options, caplog):
        """The very exception, without a note or a report: whoever awaits the service sees it."""
        error = Boom()

        with pytest.raises(Boom) as caught:
            await supervised(**options)(after)(asyncio.sleep(0), error)

        assert caught.value is error
        assert (error.__cause__, error.__context__, getattr(error, "__notes__", [])) == (None, None, [])
        assert messages(caplog) == []

    async def test_an_error_of_the_predicate_propagates(self, caplog):
        """With the failure it was asked about as its context, since nobody else will tell of that."""
        failure = Boom()

        def broken(exc):
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as caught:
            await supervised(on=broken)(after)(asyncio.sleep(0), failure)

        assert caught.value.__context__ is failure
        assert messages(caplog) == []

    async def test_an_error_of_the_predicate_propagates_though_it_is_frozen(self):
        """A frozen dataclass refuses to have its context set, as it refuses every change."""
        failure = Boom()

        @dataclasses.dataclass(frozen=True)
        class FrozenError(Exception):
            code: int

        def broken(exc):
            raise FrozenError(5)

        with pytest.raises(FrozenError) as caught:
            await supervised(on=broken)(after)(asyncio.sleep(0), failure)

        assert caught.value.__context__ is failure

    async def test_a_predicate_without_an_answer_is_told_so(self):
        """Again with the failure as the context."""
        failure = Boom()

        with pytest.raises(TypeError) as caught:
            await supervised(on=lambda exc: None)(after)(asyncio.sleep(0), failure)

        assert str(caught.value) == "on must return True, False or a number of seconds, got NoneType"
        assert caught.value.__context__ is failure

    async def test_a_predicate_that_raises_the_failure_itself_changes_nothing(self):
        """`raise exc` is a way to say that there is no restart."""
        failure = Boom()

        with pytest.raises(Boom) as caught:
            await supervised(on=raise_or_return)(after)(asyncio.sleep(0), failure)

        assert caught.value is failure
        assert failure.__context__ is None

    async def test_an_error_of_the_predicate_keeps_a_context_of_its_own(self):
        """It was raised while handling something else, which is nearer to it."""

        def broken(exc):
            try:
                raise KeyError
            except KeyError:
                raise ZeroDivisionError  # noqa: B904  # the context is what is tested

        with pytest.raises(ZeroDivisionError) as caught:
            await supervised(on=broken)(after)(asyncio.sleep(0), Boom())

        assert isinstance(caught.value.__context__, KeyError)


class TestMaxRestarts:
    async def test_the_last_error_is_raised_with_a_note_and_reported_once(self, caplog):
        """The report has no traceback: the error itself has it, where it arrives."""
        errors = [Boom(1), Boom(2), Boom(3)]
        left = iter(errors)

        @supervised(delays=[0], max_restarts=2, name="feed")
        async def feed():
            raise next(left)

        with record_events() as events, pytest.raises(Boom) as caught:
            await feed()

        assert caught.value is errors[2]
        assert [getattr(error, "__notes__", None) for error in errors] == [
            None,
            None,
            ["gave up on feed after 2 restarts"],
        ]
        assert messages(caplog) == [
            ("WARNING", "feed failed after 0.0 s with Boom, restart 1 in 0.0 s"),
            ("WARNING", "feed failed after 0.0 s with the same Boom, restart 2 in 0.0 s"),
            ("ERROR", "gave up on feed after 2 restarts: the last attempt failed with Boom after 0.0 s"),
        ]
        assert caplog.records[-1].exc_info is None
        [gave_up] = [event for event in events if isinstance(event, GaveUp)]
        assert (gave_up.exception, gave_up.restarts) == (errors[2], 2)
        assert traceback.extract_tb(errors[2].__traceback__)[-1].name == "feed"

    async def test_no_restart_at_all_may_be_the_limit(self, caplog):
        """max_restarts=0 is like "never", but says that it gave up."""
        with pytest.raises(Boom) as caught:
            await supervised(max_restarts=0, name="feed")(after)(asyncio.sleep(0), Boom())

        assert caught.value.__notes__ == ["gave up on feed after 0 restarts"]
        assert messages(caplog) == [
            ("ERROR", "gave up on feed after 0 restarts: the last attempt failed with Boom after 0.0 s")
        ]

    @virtual
    async def test_a_stable_run_starts_the_count_anew(self):
        """Restarts count in a row; a service that works for hours between failures is never given up."""
        script = Scripted(Boom(), Boom(), (61, Boom()), Boom(), (61, Boom()), (60, Boom()), Boom())

        error = await run(script, delays=[0], max_restarts=2)

        assert error.__notes__ == ["gave up on feed after 2 restarts"]
        assert script.started == [0, 0, 0, 61, 61, 122, 182]

    @virtual
    async def test_a_stable_run_does_not_help_without_any_restart_allowed(self):
        """max_restarts=0 means none, ever."""
        script = Scripted((1000, Boom()))

        error = await run(script, max_restarts=0)

        assert isinstance(error, Boom)
        assert script.started == [0]

    async def test_an_error_that_takes_no_note_is_raised_all_the_same(self):
        """A frozen dataclass refuses it, like every change."""

        @dataclasses.dataclass(frozen=True)
        class FrozenError(Exception):
            code: int

        @supervised(max_restarts=0)
        async def feed():
            raise FrozenError(5)

        with pytest.raises(FrozenError) as caught:
            await feed()

        assert caught.value.code == 5

    async def test_an_error_whose_notes_are_anything_is_raised_all_the_same(self):
        """An error that stands for a reply of a service may well have an answer for every attribute."""

        class ReplyError(Exception):
            def __getattr__(self, name):
                return None

        error = ReplyError()

        with pytest.raises(ReplyError) as caught:
            await supervised(max_restarts=0)(after)(asyncio.sleep(0), error)

        assert caught.value is error

    async def test_a_group_is_given_up_as_a_whole(self):
        """The group itself is raised, with the note on it."""

        @supervised(max_restarts=0, name="feed")
        async def feed():
            raise ExceptionGroup("several", [Boom(), Bang()])

        with pytest.raises(ExceptionGroup) as caught:
            await feed()

        assert caught.value.__notes__ == ["gave up on feed after 0 restarts"]
