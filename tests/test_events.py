"""What the library notices, as events: their texts and facts, the log records, and the subscribers."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import io
import json
import logging
import logging.handlers
import pickle
import queue
import subprocess
import sys
from pathlib import Path

import pytest
from tools import SecretError, raise_secret

import async_plus
from async_plus import events
from async_plus.stacks import Parked, Place

pytestmark = pytest.mark.usefixtures("everything_is_logged")

HERE = Place("/app/crawl.py", 41, "crawl")
DEEP = Parked(Place("/app/pool.py", 88, "acquire"), "Queue.get")


def raised():
    """Return a SecretError that was raised, so that it has a traceback."""
    try:
        raise SecretError
    except SecretError as exc:
        return exc


ERROR = raised()
RAISED_AT = Place(__file__, raised.__code__.co_firstlineno + 3, "raised")

# Each event: its level, its line, its facts, its place.
SAMPLES = [
    (
        events.TaskFailed(task="saver", launched_at=HERE, exception=ERROR),
        logging.ERROR,
        "task 'saver' failed with SecretError, launched at /app/crawl.py:41 in crawl",
        {"task": "saver", "launched_at": "/app/crawl.py:41 in crawl", "exception": "SecretError"},
        HERE,
    ),
    (
        events.TaskCancelled(task="saver", launched_at=HERE),
        logging.WARNING,
        "task 'saver' was cancelled without a request to cancel it, launched at /app/crawl.py:41 in crawl",
        {"task": "saver", "launched_at": "/app/crawl.py:41 in crawl"},
        HERE,
    ),
    (
        events.HandlerFailed(task="saver", handler="App.on_error", exception=ERROR),
        logging.ERROR,
        "on_exception handler App.on_error of task 'saver' failed with SecretError",
        {"task": "saver", "handler": "App.on_error", "exception": "SecretError"},
        None,
    ),
    (
        events.LateFailure(task="saver", owner="try_gather", exception=ERROR),
        logging.ERROR,
        "task 'saver' failed with SecretError, not raised by try_gather: it ends otherwise",
        {"task": "saver", "owner": "try_gather", "exception": "SecretError"},
        None,
    ),
    (
        events.StuckTasks(
            owner="cancel_and_wait",
            after=5.04,
            tasks=(events.StuckTask("saver", DEEP), events.StuckTask("feed", Parked(None, "sleep"))),
        ),
        logging.WARNING,
        "cancel_and_wait still waits for 2 cancelled tasks after 5.0 s: "
        "'saver' parked at /app/pool.py:88 in acquire on Queue.get; 'feed' parked on sleep",
        {
            "owner": "cancel_and_wait",
            "after": 5.04,
            "tasks": "'saver' parked at /app/pool.py:88 in acquire on Queue.get; 'feed' parked on sleep",
        },
        None,
    ),
    (
        events.LongWait(awaited="fetch", after=5.0, task="Task-1", waiting_at=HERE, parked=DEEP),
        logging.WARNING,
        "Still waiting for fetch after 5.0 s at /app/crawl.py:41 in crawl; "
        "parked at /app/pool.py:88 in acquire on Queue.get",
        {
            "awaited": "fetch",
            "after": 5.0,
            "task": "Task-1",
            "waiting_at": "/app/crawl.py:41 in crawl",
            "parked": "at /app/pool.py:88 in acquire on Queue.get",
        },
        HERE,
    ),
    (
        events.LongWait(awaited="fetch", after=5.0, task="Task-1", waiting_at=None, parked=Parked(None, "Future")),
        logging.WARNING,
        "Still waiting for fetch after 5.0 s in task 'Task-1'; parked on Future",
        {"awaited": "fetch", "after": 5.0, "task": "Task-1", "waiting_at": None, "parked": "on Future"},
        None,
    ),
    (
        events.WaitOver(
            level=logging.WARNING,
            awaited="fetch",
            after=12.34,
            task="Task-1",
            waiting_at=HERE,
            outcome="returned",
            exception=None,
            long=True,
        ),
        logging.WARNING,
        "fetch at /app/crawl.py:41 in crawl returned after 12.3 s",
        {
            "awaited": "fetch",
            "after": 12.34,
            "task": "Task-1",
            "waiting_at": "/app/crawl.py:41 in crawl",
            "outcome": "returned",
            "exception": None,
            "long": True,
        },
        HERE,
    ),
    (
        events.WaitOver(
            level=logging.INFO,
            awaited="fetch",
            after=0.0,
            task="Task-1",
            waiting_at=HERE,
            outcome="raised",
            exception=ERROR,
            long=False,
        ),
        logging.INFO,
        "fetch at /app/crawl.py:41 in crawl raised SecretError after 0.0 s",
        {
            "awaited": "fetch",
            "after": 0.0,
            "task": "Task-1",
            "waiting_at": "/app/crawl.py:41 in crawl",
            "outcome": "raised",
            "exception": "SecretError",
            "long": False,
        },
        HERE,
    ),
    (
        events.WaitOver(
            level=logging.INFO,
            awaited="fetch",
            after=1.0,
            task="Task-1",
            waiting_at=None,
            outcome="cancelled",
            exception=None,
            long=False,
        ),
        logging.INFO,
        "fetch in task 'Task-1' was cancelled after 1.0 s",
        {
            "awaited": "fetch",
            "after": 1.0,
            "task": "Task-1",
            "waiting_at": None,
            "outcome": "cancelled",
            "exception": None,
            "long": False,
        },
        None,
    ),
    (
        events.AttemptStarted(service="feed", attempt=3),
        logging.DEBUG,
        "feed started, attempt 3",
        {"service": "feed", "attempt": 3},
        None,
    ),
    (
        events.Stopped(service="feed", attempt=3, restart=2),
        logging.INFO,
        "feed stopped, before restart 2",
        {"service": "feed", "attempt": 3, "restart": 2},
        None,
    ),
    (
        events.AttemptFailed(
            service="feed",
            attempt=3,
            ran_for=3.21,
            exception=ERROR,
            failed_at=RAISED_AT,
            repeated=False,
            restart=3,
            delay=10.41,
        ),
        logging.WARNING,
        "feed failed after 3.2 s with SecretError, restart 3 in 10.4 s",
        {
            "service": "feed",
            "attempt": 3,
            "ran_for": 3.21,
            "exception": "SecretError",
            "failed_at": str(RAISED_AT),
            "repeated": False,
            "restart": 3,
            "delay": 10.41,
        },
        RAISED_AT,
    ),
    (
        events.AttemptFailed(
            service="feed",
            attempt=1,
            ran_for=0.0,
            exception=ERROR,
            failed_at=None,
            repeated=True,
            restart=None,
            delay=None,
        ),
        logging.WARNING,
        "feed failed after 0.0 s with the same SecretError, not restarted: it is being stopped",
        {
            "service": "feed",
            "attempt": 1,
            "ran_for": 0.0,
            "exception": "SecretError",
            "failed_at": None,
            "repeated": True,
            "restart": None,
            "delay": None,
        },
        None,
    ),
    (
        events.AttemptReturned(service="feed", attempt=2, ran_for=1.0, restart=2, delay=0.0),
        logging.INFO,
        "feed returned after 1.0 s, restart 2 in 0.0 s",
        {"service": "feed", "attempt": 2, "ran_for": 1.0, "restart": 2, "delay": 0.0},
        None,
    ),
    (
        events.GaveUp(service="feed", restarts=5, ran_for=0.4, exception=ERROR, failed_at=RAISED_AT),
        logging.ERROR,
        "gave up on feed after 5 restarts: the last attempt failed with SecretError after 0.4 s",
        {
            "service": "feed",
            "restarts": 5,
            "ran_for": 0.4,
            "exception": "SecretError",
            "failed_at": str(RAISED_AT),
            "restartable": True,
        },
        RAISED_AT,
    ),
    (
        events.GaveUp(service="feed", restarts=1, ran_for=0.4, exception=None, failed_at=None),
        logging.ERROR,
        "gave up on feed after 1 restart: the last attempt returned after 0.4 s",
        {
            "service": "feed",
            "restarts": 1,
            "ran_for": 0.4,
            "exception": None,
            "failed_at": None,
            "restartable": True,
        },
        None,
    ),
    (
        events.GaveUp(service="feed", restarts=2, ran_for=0.4, exception=ERROR, failed_at=RAISED_AT, restartable=False),
        logging.ERROR,
        "feed is not restarted: the last attempt failed with SecretError after 0.4 s",
        {
            "service": "feed",
            "restarts": 2,
            "ran_for": 0.4,
            "exception": "SecretError",
            "failed_at": str(RAISED_AT),
            "restartable": False,
        },
        RAISED_AT,
    ),
    (
        events.Stopped(service="feed", attempt=3),
        logging.INFO,
        "feed stopped, attempt 3",
        {"service": "feed", "attempt": 3, "restart": None},
        None,
    ),
    (
        events.Stopped(service="feed", attempt=3, restart=2),
        logging.INFO,
        "feed stopped, before restart 2",
        {"service": "feed", "attempt": 3, "restart": 2},
        None,
    ),
    (
        events.AttemptReady(service="feed", attempt=3, after=1.26),
        logging.INFO,
        "feed is ready after 1.3 s, attempt 3",
        {"service": "feed", "attempt": 3, "after": 1.26},
        None,
    ),
    (
        events.AttemptHung(service="feed", attempt=3, silent_for=30.04, parked=DEEP),
        logging.WARNING,
        "feed hangs: no heartbeat for 30.0 s, attempt 3 is parked at /app/pool.py:88 in acquire on Queue.get "
        "and is cancelled",
        {
            "service": "feed",
            "attempt": 3,
            "silent_for": 30.04,
            "parked": "at /app/pool.py:88 in acquire on Queue.get",
        },
        DEEP.place,
    ),
    (
        events.SiblingsRestarted(supervisor="shop", strategy="one_for_all", child="db", siblings=("feed", "web")),
        logging.INFO,
        "supervisor 'shop' restarts feed, web with db (one_for_all)",
        {"supervisor": "shop", "strategy": "one_for_all", "child": "db", "siblings": "feed; web"},
        None,
    ),
    (
        events.WouldNotStop(
            after=10.0, exit_code=70, blocked_at=HERE, tasks=(events.StuckTask("feed", Parked(None, "sleep")),)
        ),
        logging.CRITICAL,
        "not stopped after 10.0 s, so the process ends with code 70: "
        "the event loop is blocked at /app/crawl.py:41 in crawl; 'feed' parked on sleep",
        {
            "after": 10.0,
            "exit_code": 70,
            "blocked_at": "/app/crawl.py:41 in crawl",
            "tasks": "'feed' parked on sleep",
        },
        HERE,
    ),
    (
        events.ThreadsLeft(after=10.0, functions=("fetch", "Pool.work")),
        logging.WARNING,
        "2 calls in threads left behind, not ended within 10.0 s: fetch, Pool.work",
        {"after": 10.0, "functions": "fetch; Pool.work"},
        None,
    ),
    (
        events.StopRequested(signal="SIGTERM", drain=0, grace=2.5),
        logging.INFO,
        "SIGTERM: stopping (drain 0 s, grace 2.5 s)",
        {"signal": "SIGTERM", "drain": 0, "grace": 2.5},
        None,
    ),
    (
        events.StopForced(signal="SIGINT", exit_code=130),
        logging.WARNING,
        "SIGINT during the stop: the process ends at once with code 130",
        {"signal": "SIGINT", "exit_code": 130},
        None,
    ),
    (
        events.NotifyFailed(message="READY=1", exception=ConnectionRefusedError(111, "Connection refused")),
        logging.WARNING,
        "cannot tell the service manager READY=1: Connection refused",
        {"message": "READY=1", "exception": "ConnectionRefusedError"},
        None,
    ),
    (
        events.LoopBlocked(blocked_for=0.531, task="feed", blocked_at=HERE, stack=(DEEP.place, HERE)),
        logging.WARNING,
        "event loop blocked 0.53 s in task 'feed' at /app/crawl.py:41 in crawl",
        {
            "blocked_for": 0.531,
            "task": "feed",
            "blocked_at": "/app/crawl.py:41 in crawl",
            "stack": "/app/pool.py:88 in acquire; /app/crawl.py:41 in crawl",
        },
        HERE,
    ),
    (
        events.LoopBlocked(blocked_for=0.531, task=None, blocked_at=None, stack=()),
        logging.WARNING,
        "event loop blocked 0.53 s in a callback, at no line of Python",
        {"blocked_for": 0.531, "task": None, "blocked_at": None, "stack": ""},
        None,
    ),
    (
        events.BlockOver(blocked_for=3.2, seen=True, task=None, blocked_at=HERE),
        logging.WARNING,
        "event loop was blocked 3.20 s, last seen in a callback at /app/crawl.py:41 in crawl",
        {"blocked_for": 3.2, "seen": True, "task": None, "blocked_at": "/app/crawl.py:41 in crawl"},
        HERE,
    ),
    (
        events.BlockOver(blocked_for=3.2, seen=False, task=None, blocked_at=None),
        logging.WARNING,
        "event loop was blocked 3.20 s, and so were all threads (by C code that keeps the GIL, or the process was "
        "stopped)",
        {"blocked_for": 3.2, "seen": False, "task": None, "blocked_at": None},
        None,
    ),
    (
        events.SubscriberFailed(subscriber="Alerts.send", event="TaskFailed", exception=ERROR),
        logging.ERROR,
        "subscriber Alerts.send failed with SecretError on TaskFailed; its further failures are not reported",
        {"subscriber": "Alerts.send", "event": "TaskFailed", "exception": "SecretError"},
        None,
    ),
]
EVENTS = [event for event, *_ in SAMPLES]
STARTED = events.AttemptStarted(service="feed", attempt=1)
FAILED = events.TaskFailed(task="saver", launched_at=HERE, exception=ERROR)


def name(event):
    return type(event).__name__


each_sample = pytest.mark.parametrize(("event", "level", "text", "facts", "place"), SAMPLES, ids=map(name, EVENTS))
each_event = pytest.mark.parametrize("event", EVENTS, ids=name)


class TestEvents:
    def test_there_is_a_sample_of_every_event(self):
        """The tests below leave no kind of event out."""
        kinds = {kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)}

        assert {type(event) for event in EVENTS} == kinds - {events.Event}
        assert all(getattr(async_plus, kind.__name__) is kind for kind in kinds)

    @each_event
    def test_an_event_cannot_be_changed(self, event):
        """Subscribers share one event, so that none of them may alter what the next one sees."""
        with pytest.raises(dataclasses.FrozenInstanceError) as changed:
            event.level = 0
        with pytest.raises(dataclasses.FrozenInstanceError) as deleted:
            del event.level

        assert str(changed.value) == "cannot assign to field 'level'"
        assert str(deleted.value) == "cannot delete field 'level'"

    @each_event
    def test_an_event_is_small(self, event):
        """It is slotted: no dict of its own."""
        assert not hasattr(event, "__dict__")

    @each_sample
    def test_an_event_reads_as_its_line_in_the_log(self, event, level, text, facts, place):
        """str() is the very line that is logged, and its level comes with the kind of event."""
        assert (str(event), event.level) == (text, level)

    @each_sample
    def test_its_facts_are_flat_and_plain(self, event, level, text, facts, place):
        """`extra` has one prefixed key a fact, with JSON's own values, and `async_plus_event` to tell the kind."""
        expected = {"async_plus_event": type(event).__name__}
        expected |= {f"async_plus_{key}": value for key, value in facts.items()}

        assert event.extra == expected
        assert json.loads(json.dumps(event.extra, allow_nan=False)) == expected

    @each_event
    def test_the_text_of_an_exception_stays_out(self, event):
        """Exceptions carry secrets. The line and the facts name the type only."""
        assert "swordfish" not in str(event)
        assert "swordfish" not in json.dumps(event.extra)

    def test_two_events_of_the_same_facts_are_equal(self):
        """So that a test of the user's can compare what it recorded."""
        assert events.Stopped(service="feed", attempt=3) == events.Stopped(service="feed", attempt=3)
        assert events.Stopped(service="feed", attempt=3) != events.Stopped(service="feed", attempt=4)

    def test_two_events_of_different_kinds_are_not(self):
        """Whatever their facts."""
        started, ready = events.AttemptStarted(service="feed", attempt=1), events.Stopped(service="feed", attempt=1)

        assert started != ready
        assert started != "feed"

    @each_event
    def test_an_event_can_be_a_key_and_a_copy_equals_it(self, event):
        """It counts by its facts: a set of them holds each once."""
        again = dataclasses.replace(event)

        assert again is not event
        assert {event: 1} == {again: 1}
        assert len({event, again}) == 1

    @each_event
    def test_an_event_shows_its_facts(self, event):
        """By name, as dataclasses do, so that a failing assert tells what differs."""
        facts = (f"{field.name}={getattr(event, field.name)!r}" for field in dataclasses.fields(event))

        assert repr(event) == f"{type(event).__name__}({', '.join(facts)})"

    @each_event
    def test_an_event_tells_how_it_is_made(self, event):
        """Each fact by its name, so that a test of the user's can make one without looking at the source."""
        parameters = inspect.signature(type(event)).parameters.values()

        assert [parameter.name for parameter in parameters] == [field.name for field in dataclasses.fields(event)]
        assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
        assert str(inspect.signature(events.Stopped)) == (
            "(*, level: 'int' = 20, service: 'str', attempt: 'int', restart: 'int | None' = None)"
        )

    def test_an_event_that_lacks_a_fact_is_not_made(self):
        """Nor one with a fact that it does not have; each is named."""
        with pytest.raises(TypeError) as lacking:
            events.Stopped(level=logging.INFO, restart=1)
        with pytest.raises(TypeError) as wrong:
            events.Stopped(service="feed", attempt=1, restarts=1, name="feed")

        assert str(lacking.value) == "Stopped needs service, attempt"
        assert str(wrong.value) == "Stopped has no restarts, name: its facts are level, service, attempt, restart"

    @each_event
    def test_an_event_is_a_dataclass(self, event):
        """Libraries that know dataclasses know what to do with one."""
        facts = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}

        assert dataclasses.is_dataclass(event)
        assert type(event)(**facts) == event
        assert dataclasses.asdict(events.Stopped(service="feed", attempt=3)) == {
            "level": logging.INFO, "service": "feed", "attempt": 3, "restart": None
        }  # fmt: skip

    def test_a_copy_of_an_event_equals_it(self):
        """Shallow or deep, or on its way through another process."""
        event = events.LoopBlocked(blocked_for=0.5, task="feed", blocked_at=HERE, stack=(HERE,))

        for again in (copy.copy(event), copy.deepcopy(event), pickle.loads(pickle.dumps(event))):
            assert again is not event
            assert again == event

    def test_a_bare_event_has_no_words(self):
        """`Event` is what all have in common, and is never sent itself."""
        with pytest.raises(NotImplementedError):
            _ = events.Event(level=logging.INFO).args


class TestLogging:
    @each_sample
    def test_every_event_is_one_record(self, event, level, text, facts, place, caplog):
        """Logger `async_plus`; the constant format and its arguments apart, so that trackers group by it; the facts."""
        events.emit(event)

        [record] = caplog.records
        assert (record.name, record.levelno, record.getMessage()) == ("async_plus", level, text)
        assert (record.msg, record.args) == (type(event).format, event.args)
        told = {key: value for key, value in vars(record).items() if key.startswith("async_plus_")}
        assert told == event.extra

    @each_sample
    def test_a_record_points_to_the_users_code(self, event, level, text, facts, place, caplog):
        """File, line and function of a record are where it happened; without such a place, where it was emitted."""
        events.emit(event)

        [record] = caplog.records
        emitted = events.emit.__code__
        expected = place or Place(emitted.co_filename, emitted.co_firstlineno, "emit")
        assert Place(record.pathname, record.lineno, record.funcName) == expected

    @each_event
    def test_the_traceback_comes_with_the_first_report_only(self, event, caplog):
        """Failures are logged with their traceback; repeated ones, given-up ones and ended waits without."""
        events.emit(event)

        [record] = caplog.records
        traced = (events.TaskFailed, events.HandlerFailed, events.LateFailure, events.SubscriberFailed)
        if isinstance(event, traced) or (isinstance(event, events.AttemptFailed) and not event.repeated):
            assert record.exc_info == (SecretError, ERROR, ERROR.__traceback__)
        else:
            assert record.exc_info is None

    def test_a_name_cannot_forge_another_line(self, caplog):
        """It may come from a configuration or a client, with an end of line and what looks like a record."""
        event = events.Stopped(service="feed\nCRITICAL all is lost \x1b[1m\udc80", attempt=1)

        events.emit(event)

        line = r"feed\nCRITICAL all is lost \x1b[1m\udc80 stopped, attempt 1"
        [record] = caplog.records
        assert record.getMessage() == str(event) == line
        assert event.service == "feed\nCRITICAL all is lost \x1b[1m\udc80"

    def test_the_traceback_begins_in_the_users_code(self, caplog):
        """The frames through which the library called the user's code are left out."""
        namespace = {}
        code = "def call(function):\n    function()\n"
        exec(compile(code, events.__file__, "exec"), namespace)
        call = namespace["call"]
        try:
            call(lambda: call(raise_secret))
        except SecretError as exc:
            error = exc.with_traceback(exc.__traceback__.tb_next)

        events.emit(events.TaskFailed(task="saver", launched_at=HERE, exception=error))

        [record] = caplog.records
        functions = []
        tb = record.exc_info[2]
        while tb is not None:
            functions.append(tb.tb_frame.f_code.co_name)
            tb = tb.tb_next
        # Only at the beginning: further in, a frame of ours tells how one function of the user's called the other.
        assert functions == ["<lambda>", "call", "raise_secret"]

    def test_an_exception_raised_by_the_library_itself_keeps_its_last_frame(self, caplog):
        """A traceback never becomes empty."""
        namespace = {}
        code = "def fail():\n    raise RuntimeError\n"
        exec(compile(code, events.__file__, "exec"), namespace)
        try:
            namespace["fail"]()
        except RuntimeError as exc:
            error = exc.with_traceback(exc.__traceback__.tb_next)

        events.emit(events.TaskFailed(task="saver", launched_at=HERE, exception=error))

        [record] = caplog.records
        assert record.exc_info == (RuntimeError, error, error.__traceback__)

    def test_an_exception_that_was_never_raised_has_no_traceback(self, caplog):
        """A future may be given an exception that no code has raised."""
        error = SecretError()

        events.emit(events.TaskFailed(task="saver", launched_at=HERE, exception=error))

        [record] = caplog.records
        assert record.exc_info == (SecretError, error, None)

    def test_a_level_that_is_off_costs_no_record(self, caplog):
        """The level of the logger `async_plus` decides, as for any logger."""
        caplog.set_level(logging.ERROR, logger="async_plus")

        events.emit(events.Stopped(service="feed", attempt=1))

        assert caplog.records == []

    def test_nothing_but_the_subscriber_logs(self):
        """One source for the log and for metrics: no other module has a logger of the library's."""
        package = Path(async_plus.__file__).parent
        loggers = {file.name for file in package.rglob("*.py") if "getLogger(" in file.read_text()}

        # async_plus.testing.leaks looks at asyncio's logger, and the command line at the root's handlers.
        assert loggers == {"cli.py", "leaks.py", "subscribers.py"}

    def test_the_logger_has_no_handler(self, logger):
        """A NullHandler would switch off Python's last resort: an unconfigured program would not see its failures."""
        assert (logger.handlers, logger.propagate) == ([], True)

    def test_a_program_without_logging_set_up_sees_its_failures(self, tmp_path):
        """Python's last resort prints warnings and errors with their traceback to stderr, and nothing to stdout."""
        program = tmp_path / "program.py"
        program.write_text(
            "import asyncio, async_plus\n"
            "async def feed():\n"
            "    raise ConnectionError('lost')\n"
            "async def main():\n"
            "    async_plus.launch_watched(feed(), name='feed')\n"
            "    await asyncio.sleep(0)\n"
            "asyncio.run(main())\n"
        )
        ran = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)

        assert ran.stdout == ""
        assert ran.stderr == (
            f"task 'feed' failed with ConnectionError, launched at {program}:5 in main\n"
            "Traceback (most recent call last):\n"
            f'  File "{program}", line 3, in feed\n'
            "    raise ConnectionError('lost')\n"
            "ConnectionError: lost\n"
        )

    def test_trackers_find_the_facts_on_the_record(self, logger):
        """Sentry's and structlog's handlers take what is not standard on a record, and serialise it."""
        standard = set(vars(logging.makeLogRecord({}))) | {"taskName"}
        sent = []

        class Tracker(logging.Handler):
            def emit(self, record):
                facts = {key: value for key, value in vars(record).items() if key not in standard}
                sent.append(json.dumps({"message": record.msg, "params": list(map(str, record.args)), **facts}))

        logger.addHandler(Tracker())

        events.emit(FAILED)

        assert [json.loads(item) for item in sent] == [
            {
                "message": "task %r failed with %s, launched at %s",
                "params": ["saver", "SecretError", "/app/crawl.py:41 in crawl"],
                "async_plus_event": "TaskFailed",
                "async_plus_task": "saver",
                "async_plus_launched_at": "/app/crawl.py:41 in crawl",
                "async_plus_exception": "SecretError",
            }
        ]

    def test_a_format_of_the_users_may_name_the_facts(self, logger):
        """Formatters and filters use the facts like any other attribute of a record."""
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(async_plus_event)s|%(async_plus_service)s|%(message)s"))
        handler.addFilter(lambda record: record.async_plus_attempt > 1)
        logger.addHandler(handler)

        events.emit(STARTED)
        events.emit(events.AttemptStarted(service="feed", attempt=2))

        assert stream.getvalue() == "AttemptStarted|feed|feed started, attempt 2\n"

    def test_a_record_crosses_queues_and_processes(self, logger):
        """QueueHandler and SocketHandler prepare and pickle it, and the facts arrive."""
        records = queue.SimpleQueue()
        logger.addHandler(logging.handlers.QueueHandler(records))

        events.emit(FAILED)

        record = pickle.loads(pickle.dumps(records.get()))
        assert record.getMessage().startswith(str(FAILED))
        assert record.async_plus_task == "saver"
