"""Who hears of events: subscribers that come, go and fail."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import io
import logging
import signal
import sys
import threading

import pytest
from tools import SecretError, raise_secret

import async_plus
from async_plus import events
from async_plus.events import subscribers

pytestmark = pytest.mark.usefixtures("everything_is_logged")

STARTED = events.AttemptStarted(service="feed", attempt=1)
FAILED = events.Stopped(service="feed", attempt=1)


@pytest.fixture
def subscribe():
    """`async_plus.subscribe`, ended with the test."""
    ends = []

    def subscribe(callback):
        unsubscribe = async_plus.subscribe(callback)
        ends.append(unsubscribe)
        return unsubscribe  # not ends[-1], which another thread may have appended

    yield subscribe
    for unsubscribe in ends:
        unsubscribe()


class TestSubscribe:
    def test_every_event_is_heard_until_the_end_of_the_subscription(self, subscribe):
        """The very object is handed over; ending it twice is fine."""
        heard = []
        unsubscribe = subscribe(heard.append)

        events.emit(STARTED)
        events.emit(FAILED)
        unsubscribe()
        unsubscribe()
        events.emit(STARTED)

        assert len(heard) == 2
        assert (heard[0] is STARTED, heard[1] is FAILED) == (True, True)

    def test_events_come_whatever_is_logged(self, subscribe, logger):
        """A logger that is off or disabled is a matter of the log alone: metrics go on."""
        heard = []
        subscribe(heard.append)
        logger.disabled = True

        events.emit(STARTED)

        assert heard == [STARTED]

    def test_subscribers_are_called_in_their_order(self, subscribe):
        """First come, first served."""
        heard = []
        subscribe(lambda event: heard.append("first"))
        subscribe(lambda event: heard.append("second"))

        events.emit(STARTED)

        assert heard == ["first", "second"]

    def test_logging_comes_first(self, subscribe, caplog):
        """When a subscriber is called, the line is in the log already."""
        seen = []
        subscribe(lambda event: seen.append([record.getMessage() for record in caplog.records]))

        events.emit(STARTED)

        assert seen == [["feed started, attempt 1"]]

    def test_one_callback_may_have_several_subscriptions(self, subscribe):
        """Each is ended by its own function."""
        heard = []
        subscribe(heard.append)
        end = subscribe(heard.append)

        events.emit(STARTED)
        end()
        events.emit(FAILED)

        assert heard == [STARTED, STARTED, FAILED]

    async def test_a_subscriber_runs_where_it_happens(self, subscribe):
        """In the thread and with the context variables of the code that noticed it: request ids come out right."""
        request, threads, heard = contextvars.ContextVar("request"), [], []
        subscribe(lambda event: heard.append((request.get(), threading.current_thread())))

        def work():
            threads.append(threading.current_thread())
            events.emit(STARTED)

        request.set("outer")
        await asyncio.to_thread(work)
        request.set("inner")
        events.emit(STARTED)

        assert heard == [("outer", threads[0]), ("inner", threading.current_thread())]
        assert threads[0] is not threading.current_thread()

    def test_a_subscriber_that_comes_during_an_event_hears_the_next_one(self, subscribe):
        """Being handed out, an event goes to those who were there when it happened."""
        heard = []
        end = subscribe(lambda event: subscribe(heard.append))

        events.emit(STARTED)
        end()
        events.emit(FAILED)

        assert heard == [FAILED]

    def test_a_subscriber_that_goes_during_an_event_is_not_called_any_more(self, subscribe):
        """Once ended, by itself or by another, a subscription is silent."""
        heard = []

        def first(event):
            heard.append("first")
            end_first()
            end_second()

        end_first = subscribe(first)
        end_second = subscribe(lambda event: heard.append("second"))

        events.emit(STARTED)
        events.emit(STARTED)

        assert heard == ["first"]

    def test_subscribers_come_and_go_in_threads(self, subscribe):
        """None is lost and none is left, however the threads interleave, while events are handed out."""
        heard = []
        subscribe(heard.append)
        threads, rounds = 8, 200
        barrier = threading.Barrier(threads)
        kept = []

        def work():
            barrier.wait()
            for _ in range(rounds):
                keep, drop = subscribe(lambda event: None), subscribe(lambda event: None)
                events.emit(STARTED)
                drop()
                kept.append(keep)

        before = len(subscribers._subscriptions)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            workers = [threading.Thread(target=work) for _ in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        finally:
            sys.setswitchinterval(interval)

        assert len(heard) == threads * rounds
        assert len(subscribers._subscriptions) == before + threads * rounds
        for keep in kept:
            keep()
        assert len(subscribers._subscriptions) == before

    def test_a_subscriber_may_go_in_a_signal_handler(self, subscribe):
        """Neither function takes a lock that the interrupted code might hold already."""
        heard = []
        end = subscribe(heard.append)
        previous = signal.signal(signal.SIGUSR1, lambda *_: end())
        try:
            subscribe(lambda event: signal.raise_signal(signal.SIGUSR1))
            events.emit(STARTED)
            events.emit(FAILED)
        finally:
            signal.signal(signal.SIGUSR1, previous)

        assert heard == [STARTED]

    def test_what_cannot_be_called_is_refused(self):
        """At the call of subscribe(), not at the first event."""
        with pytest.raises(TypeError) as caught:
            async_plus.subscribe(None)

        assert str(caught.value) == "callback must be a callable taking an event, got NoneType"

    def test_an_async_subscriber_is_refused(self):
        """Nobody would await it, so it would hear nothing."""

        async def notify(event):
            pass

        with pytest.raises(TypeError) as caught:
            async_plus.subscribe(functools.partial(notify))

        function = "TestSubscribe.test_an_async_subscriber_is_refused.<locals>.notify"
        assert str(caught.value) == (
            f"callback must be synchronous, but the function {function} is async (launch a task inside it instead)"
        )

    async def test_a_subscriber_may_launch_a_task(self, subscribe):
        """What has to await, like a message to a chat, runs in a task of its own. @watched makes one of each event."""
        heard = []

        @async_plus.watched
        async def notify(event):
            heard.append(event)

        subscribe(notify)
        events.emit(STARTED)
        await asyncio.sleep(0)

        assert heard == [STARTED]


def raise_cancelled(_):
    raise asyncio.CancelledError


class TestSubscriberThatFails:
    REPORT = "subscriber raise_secret failed with SecretError on AttemptStarted; its further failures are not reported"

    def test_it_breaks_nothing_and_is_reported_once(self, subscribe, caplog):
        """Whoever noticed the event goes on, and so do the other subscribers. It gets further events."""
        heard = []
        calls = []

        def fail(event):
            calls.append(event)
            raise SecretError

        subscribe(fail)
        subscribe(heard.append)

        events.emit(STARTED)
        events.emit(FAILED)

        [started, report, failed] = caplog.records
        assert (started.getMessage(), failed.getMessage()) == (str(STARTED), str(FAILED))
        assert report.getMessage() == self.REPORT.replace("raise_secret", fail.__qualname__)
        assert report.levelno == logging.ERROR
        assert report.exc_info[0] is SecretError
        [told] = [event for event in heard if isinstance(event, events.SubscriberFailed)]
        assert [event for event in heard if event is not told] == [STARTED, FAILED]
        assert [event for event in calls if event is not told] == [STARTED, FAILED]
        assert str(told) == report.getMessage()

    @pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, BaseException, StopIteration])
    def test_no_error_of_it_passes_for_one_of_the_users_code(self, error, subscribe, caplog):
        """A CancelledError that came out would look like a cancellation of the task that noticed the event."""

        def fail(event):
            raise error

        subscribe(fail)
        events.emit(STARTED)

        assert [record.getMessage() for record in caplog.records] == [
            str(STARTED),
            f"subscriber {fail.__qualname__} failed with {error.__name__} on AttemptStarted; "
            "its further failures are not reported",
        ]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_the_end_of_the_program_passes(self, error, subscribe, caplog):
        """Ctrl-C in the middle of a subscriber must not be lost."""

        def fail(event):
            raise error

        subscribe(fail)
        with pytest.raises(error):
            events.emit(STARTED)

        assert [record.getMessage() for record in caplog.records] == [str(STARTED)]

    def test_several_are_reported_each_by_itself(self, subscribe, caplog):
        """Also where each of them fails on the report about the other."""
        subscribe(raise_secret)
        subscribe(raise_cancelled)

        events.emit(STARTED)
        events.emit(STARTED)

        reports = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert sorted(reports) == [
            "subscriber raise_cancelled failed with CancelledError on SubscriberFailed; "
            "its further failures are not reported",
            self.REPORT,
        ]

    def test_a_lambda_around_an_async_function_is_reported(self, subscribe, caplog):
        """It makes a coroutine that nobody awaits. That is told once, and no coroutine is warned of by Python."""

        async def notify(event):
            pass

        subscribe(lambda event: notify(event))
        events.emit(STARTED)

        [_, report] = caplog.records
        assert report.getMessage().endswith(
            "<lambda> failed with TypeError on AttemptStarted; its further failures are not reported"
        )
        assert str(report.exc_info[1]) == "a subscriber must be synchronous, but it returned a coroutine"

    async def test_a_watched_task_is_none_the_worse_for_it(self, subscribe, caplog):
        """Its failure is reported, and whoever awaits the task gets the failure itself."""
        subscribe(raise_cancelled)
        task = async_plus.launch_watched(fail_at_once(), name="saver")

        with pytest.raises(SecretError):
            await task
        # An eager task is done before its report.
        await asyncio.sleep(0)

        assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


async def fail_at_once():
    raise SecretError


class TestLoggingThatFails:
    @pytest.fixture(autouse=True)
    def nothing_reported_yet(self, monkeypatch):
        monkeypatch.setattr(subscribers._logging, "reported", False)

    def test_it_is_told_on_stderr_once_and_to_the_others(self, subscribe, logger, capsys):
        """A filter or handler that raises breaks neither the code that is watched nor the other subscribers."""
        heard = []
        subscribe(heard.append)
        logger.addFilter(raise_secret)

        events.emit(STARTED)
        events.emit(FAILED)

        printed = capsys.readouterr()
        first, *traceback = printed.err.splitlines()
        assert (printed.out, first) == ("", "async_plus: logging an event failed:")
        assert (traceback[0], traceback[-1].rpartition(".")[2]) == (
            "Traceback (most recent call last):",
            "SecretError: the password is swordfish",
        )
        [report] = [event for event in heard if isinstance(event, events.SubscriberFailed)]
        assert str(report) == (
            "subscriber logging failed with SecretError on AttemptStarted; its further failures are not reported"
        )
        assert [event for event in heard if event is not report] == [STARTED, FAILED]

    def test_a_handler_that_raises_is_no_different(self, logger, capsys):
        """Most handlers swallow their errors. One that does not, like one that raises CancelledError, is survived."""

        class Handler(logging.Handler):
            def handle(self, record):
                raise asyncio.CancelledError

        logger.addHandler(Handler())
        events.emit(STARTED)

        assert capsys.readouterr().err.splitlines()[0] == "async_plus: logging an event failed:"

    @pytest.mark.parametrize("gone", [None, "closed"])
    def test_without_stderr_it_is_silent(self, gone, logger, monkeypatch, capsys):
        """A program without a console, or with a closed one, goes on all the same."""
        stream = None
        if gone:
            stream = io.StringIO()
            stream.close()
        logger.addFilter(raise_secret)
        monkeypatch.setattr(sys, "stderr", stream)

        events.emit(STARTED)

        assert subscribers._logging.reported
        assert capsys.readouterr().out == ""


class TestWanted:
    def test_an_event_is_wanted_if_it_would_be_logged(self, caplog):
        """Frequent events are not even built if their level is off."""
        caplog.set_level(logging.INFO, logger="async_plus")

        assert (events.wanted(logging.DEBUG), events.wanted(logging.INFO)) == (False, True)

    def test_an_event_is_wanted_if_anybody_subscribed(self, subscribe, caplog):
        """Subscribers hear of everything, whatever the log shows."""
        caplog.set_level(logging.CRITICAL, logger="async_plus")
        unsubscribe = subscribe(lambda event: None)

        assert events.wanted(logging.DEBUG)
        unsubscribe()
        assert not events.wanted(logging.DEBUG)
