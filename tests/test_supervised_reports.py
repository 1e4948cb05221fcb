"""`@supervised`: what is reported of an attempt, and when with its traceback."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback

import pytest
from services import Scripted, raise_or_return, run
from tools import Bang, Boom, messages, start, turns

from async_plus import AttemptFailed, AttemptReturned, AttemptStarted, GaveUp, supervised
from async_plus.stacks import Place
from async_plus.testing import record_events

pytestmark = pytest.mark.usefixtures("infos_are_logged")

virtual = pytest.mark.virtual_time


class TestReports:
    async def test_each_failure_is_reported_before_the_delay_with_its_traceback(self, caplog):
        """Who, how long it ran, with what, and what next; the place is the line that raised."""
        error = Boom("a secret")

        @supervised(delays=[600], name="feed")
        async def feed(password):
            raise error

        host = await start(feed("swordfish"))
        [record] = caplog.records
        host.cancel()
        await turns()

        assert (record.levelname, record.getMessage()) == (
            "WARNING",
            "feed failed after 0.0 s with Boom, restart 1 in 600.0 s",
        )
        assert record.exc_info[:2] == (Boom, error)
        [frame] = traceback.extract_tb(record.exc_info[2])
        line = feed.__code__.co_firstlineno + 2
        assert (frame.filename, frame.lineno, frame.name) == (__file__, line, "feed")
        assert (record.pathname, record.lineno, record.funcName) == (__file__, line, "feed")

    @virtual
    async def test_the_events_tell_the_whole_story(self, caplog):
        """Started, failed, returned, gave up: with the facts as numbers, and in order."""
        caplog.set_level(logging.DEBUG, logger="async_plus")
        boom = Boom()
        script = Scripted((1.5, boom), (2.5, "a"), "b")

        with record_events() as events:
            await run(script, restart="always", delays=[10, 20], max_restarts=2)

        code = raise_or_return.__code__
        place = Place(code.co_filename, code.co_firstlineno + 2, "raise_or_return")
        assert events == [
            AttemptStarted(service="feed", attempt=1),
            AttemptFailed(
                service="feed",
                attempt=1,
                ran_for=1.5,
                exception=boom,
                failed_at=place,
                repeated=False,
                restart=1,
                delay=10,
            ),
            AttemptStarted(service="feed", attempt=2),
            AttemptReturned(service="feed", attempt=2, ran_for=2.5, restart=2, delay=20),
            AttemptStarted(service="feed", attempt=3),
            GaveUp(service="feed", restarts=2, ran_for=0.0, exception=None, failed_at=None),
        ]
        assert [record.getMessage() for record in caplog.records] == list(map(str, events))
        assert [record.levelname for record in caplog.records] == [
            "DEBUG",
            "WARNING",
            "DEBUG",
            "INFO",
            "DEBUG",
            "ERROR",
        ]

    @virtual
    async def test_attempts_are_counted_on_through_stable_runs(self):
        """Restarts in a row start over, the numbers of the attempts do not: each names one task."""
        with record_events() as events:
            await run(Scripted(Boom(), (100, Boom()), "done"))

        assert [event.attempt for event in events if isinstance(event, AttemptStarted)] == [1, 2, 3]
        assert [event.restart for event in events if isinstance(event, AttemptFailed)] == [1, 1]

    async def traced(self, *failures, **options):
        """Run a service that fails as the functions *failures* do, and tell which reports had a traceback."""
        left = iter(failures)

        @supervised(**{"delays": [0], "max_restarts": len(failures), "name": "feed", **options})
        async def feed():
            return next(left)()

        with record_events() as events:
            await asyncio.gather(feed(), return_exceptions=True)
        failed = [event for event in events if isinstance(event, AttemptFailed)]
        assert [event.repeated for event in failed] == [event.traced is None for event in failed]
        return [event.traced is not None for event in failed]

    async def test_a_repeated_failure_is_reported_without_its_traceback(self, caplog):
        """The same type from the same line says nothing new. The line is still logged, and trackers see the event."""
        assert await self.traced(one, one, one) == [True, False, False]

        assert messages(caplog) == [
            ("WARNING", "feed failed after 0.0 s with Boom, restart 1 in 0.0 s"),
            ("WARNING", "feed failed after 0.0 s with the same Boom, restart 2 in 0.0 s"),
            ("WARNING", "feed failed after 0.0 s with the same Boom, restart 3 in 0.0 s"),
            # What ends it is the StopIteration of next(), and no failure of this service's.
            ("ERROR", "gave up on feed after 3 restarts: the last attempt failed with RuntimeError after 0.0 s"),
        ]
        assert [record.exc_info is not None for record in caplog.records] == [True, False, False, False]

    async def test_another_line_or_another_type_comes_with_its_traceback(self):
        """Only consecutive failures are compared: one after the other and back again is news each time."""
        assert await self.traced(one, other_line, other_line, one, other_type, one, one) == [
            True,
            True,
            False,
            True,
            True,
            True,
            False,
        ]

    async def test_another_line_of_the_service_is_news_though_a_library_raises_at_the_same(self):
        """The line inside asyncio or another library may be shared by all that goes wrong."""

        def read_head():
            return json.loads("")

        def read_body():
            return json.loads("")

        assert await self.traced(read_head, read_head, read_body, read_body) == [True, False, True, False]

    async def test_a_group_with_other_errors_in_it_is_news(self):
        """A TaskGroup raises all its groups at one line, which says nothing of what failed in its tasks."""

        def group(*functions):
            def fail():
                errors = []
                for function in functions:
                    try:
                        function()
                    except Exception as exc:
                        errors.append(exc)
                raise ExceptionGroup("tasks failed", errors)

            return fail

        deep = group(one, group(other_type))
        assert await self.traced(group(one), group(one), group(other_type), group(one, other_type), deep, deep) == [
            True,
            False,
            True,
            True,
            True,
            False,
        ]

    @virtual
    async def test_whoever_gives_up_names_the_line_of_the_user_too(self):
        """Not the one in the standard library that raised the error."""

        @supervised(delays=[0], max_restarts=1)
        async def feed():
            json.loads("{")

        with record_events() as events, pytest.raises(json.JSONDecodeError):
            await feed()

        place = Place(__file__, feed.__wrapped__.__code__.co_firstlineno + 2, "feed")
        assert [event.failed_at for event in events if isinstance(event, GaveUp | AttemptFailed)] == [place, place]

    @virtual
    async def test_after_a_stable_run_the_traceback_comes_again(self):
        """Days may have passed, and the log may have been rotated."""
        script = Scripted(Boom(), Boom(), (61, Boom()), Boom(), "done")

        with record_events() as events:
            await run(script, delays=[0])

        failed = [event.repeated for event in events if isinstance(event, AttemptFailed)]
        assert failed == [False, True, False, True]

    async def test_after_a_clean_return_the_traceback_comes_again(self):
        """The attempt before did not fail, so that this failure repeats nothing."""
        assert await self.traced(one, one, clean, one, one, restart="always") == [True, False, True, False]

    async def test_a_type_made_anew_in_each_attempt_is_still_the_same(self):
        """A class inside the service is told by its name: it would otherwise be kept alive, and all it leads to."""

        def local_type():
            class LocalError(Exception):
                pass

            raise LocalError

        assert await self.traced(local_type, local_type) == [True, False]

    async def test_what_nobody_would_see_is_not_even_made(self, caplog, monkeypatch):
        """Starts, returns and stops are routine: with their level off and no subscriber they cost no event."""
        caplog.set_level(logging.WARNING, logger="async_plus")
        for name in ("AttemptStarted", "AttemptReturned", "Stopped"):
            monkeypatch.setattr(f"async_plus.events.{name}", None)
        values = iter("abc")
        service = supervised(restart="always", delays=[0, 600])(async_of(values.__next__))
        host = await start(service())

        host.cancel()

        with pytest.raises(asyncio.CancelledError):
            await host
        assert list(values) == ["c"]
        assert caplog.records == []

    async def test_no_argument_result_or_text_of_an_exception_is_logged(self, caplog):
        """Names and types only, the traceback aside."""
        caplog.set_level(logging.DEBUG, logger="async_plus")
        results = iter([Boom("swordfish"), "swordfish", "swordfish"])

        @supervised(restart="always", delays=[0], max_restarts=2, name="feed")
        async def feed(password):
            return raise_or_return(next(results))

        with record_events() as events:
            await feed("swordfish")

        assert len(events) == len(caplog.records) == 6
        assert "swordfish" not in "".join(record.getMessage() for record in caplog.records)
        assert "swordfish" not in "".join(str(event.extra) for event in events)


def async_of(function):
    """An async function around a plain one."""

    async def call():
        return function()

    return call


def one():
    raise Boom


def other_line():
    raise Boom


def other_type():
    raise Bang


def clean():
    return None


class TestOneExceptionRaisedAgainAndAgain:
    """As a StreamReader does, which keeps the exception that broke it."""

    async def test_its_traceback_does_not_grow(self):
        """Python adds to it each time it is raised. What belongs to earlier attempts is cut off."""
        error = Boom()
        depths = []

        def raise_error():
            raise error

        @supervised(delays=[0], max_restarts=20, on=lambda exc: depths.append(depth(exc)) or True)
        async def feed():
            raise_error()

        with pytest.raises(Boom):
            await feed()

        assert len(depths) == 21
        assert len(set(depths)) == 1
        assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][-2:] == ["feed", "raise_error"]

    async def test_its_traceback_does_not_grow_in_a_host_that_is_being_cancelled(self):
        """There the wait is another, the promise the same."""
        error = Boom()
        depths = []

        @supervised(delays=[0], max_restarts=20, on=lambda exc: depths.append(depth(exc)) or True)
        async def feed():
            raise error

        async def host():
            asyncio.current_task().cancel()
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                await feed()

        with pytest.raises(Boom):
            await asyncio.create_task(host())

        assert len(depths) == 21
        assert len(set(depths)) == 1

    async def test_each_report_shows_one_attempt(self, caplog):
        """Where a traceback is logged, it is that of the last attempt alone."""
        error = Boom()
        lines = iter([1, 2, 1])

        @supervised(delays=[0], max_restarts=3, name="feed")
        async def feed():
            if next(lines) == 1:
                raise error
            raise error

        with pytest.raises(RuntimeError):
            await feed()

        assert [len(traceback.extract_tb(record.exc_info[2])) for record in caplog.records[:3]] == [1, 1, 1]

    async def test_several_services_may_raise_it_in_turn(self):
        """Each cuts off what it added itself, so that it grows no further than their number."""
        error = Boom()
        depths = []

        @supervised(delays=[0], max_restarts=50, on=lambda exc: depths.append(depth(exc)) or True)
        async def feed():
            await asyncio.sleep(0)
            raise error

        await asyncio.gather(feed(), feed(), feed(), return_exceptions=True)

        assert len(depths) == 153
        assert max(depths[15:]) == max(depths[:15])

    async def test_a_supervision_inside_another_keeps_its_frames(self):
        """Only what an earlier attempt of the same supervision added is cut off."""
        error = Boom()

        @supervised(delays=[0], max_restarts=2, name="inner")
        async def inner():
            raise error

        @supervised(delays=[0], max_restarts=2, name="outer")
        async def outer():
            await inner()

        with pytest.raises(Boom):
            await outer()

        names = [frame.name for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
        assert names[-2:] == ["outer", "inner"]
        assert names.count("inner") == 1

    async def test_it_gets_each_note_once(self):
        """However often it was given up."""
        error = Boom()

        @supervised(delays=[0], max_restarts=0, name="inner")
        async def inner():
            raise error

        @supervised(delays=[0], max_restarts=5, name="outer")
        async def outer():
            await inner()

        with pytest.raises(Boom):
            await outer()

        assert error.__notes__ == ["gave up on inner after 0 restarts", "gave up on outer after 5 restarts"]


def depth(exc):
    return len(list(traceback.walk_tb(exc.__traceback__)))
