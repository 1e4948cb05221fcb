"""`await impatient(...)`: what it says of a long wait, where, and how it ended."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys

import pytest
from places import at, first_line, place
from tools import Awaitable, Boom, Lookalike, after, forever, futures, generator_based, give, messages, start, turns
from waits import CRAWL, FETCH, crawl, fetch, later, waiting

from async_plus import LongWait, WaitOver, impatient, try_gather
from async_plus.stacks import Parked
from async_plus.testing import record_events

pytestmark = pytest.mark.usefixtures("everything_is_logged")

virtual = pytest.mark.virtual_time


@virtual
class TestComplaint:
    """After `log_after` seconds one line says what is waited for, since when, where, and where that is parked."""

    async def test_a_long_wait_is_told_of_in_one_line(self, caplog):
        """What, how long, whose line; then where it is parked and on what: "parked at ... on ..."."""
        await crawl(5.5, log_completion="never")

        assert messages(caplog) == [
            (
                "WARNING",
                f"Still waiting for fetch after 5.0 s at {CRAWL}; parked at {FETCH} on sleep, 0.5 s left",
            )
        ]

    async def test_a_wait_that_ends_in_time_says_nothing(self, caplog):
        """Not even at DEBUG, and nothing is left in the register."""
        await crawl(4.9)

        assert messages(caplog) == []
        assert waiting() == {}

    async def test_the_next_complaints_come_at_gaps_of_2_4_8_times_log_after(self, caplog):
        """At 5 s, then 10, 20 and 40 s later each: a wait of hours does not fill the log."""
        await crawl(80, log_completion="never")

        assert [text.partition(" at ")[0] for _, text in messages(caplog)] == [
            "Still waiting for fetch after 5.0 s",
            "Still waiting for fetch after 15.0 s",
            "Still waiting for fetch after 35.0 s",
            "Still waiting for fetch after 75.0 s",
        ]

    async def test_each_complaint_looks_anew_at_where_it_is_parked(self, caplog):
        """The second one tells of another line if the wait has moved on."""

        async def two_steps():
            await asyncio.sleep(6)
            await asyncio.Event().wait()

        task = await start(impatient(two_steps(), log_after=5, log_completion="never"))
        await asyncio.sleep(16)
        task.cancel()
        await asyncio.wait([task])

        first, second = (text.partition("; ")[2] for _, text in messages(caplog))
        assert first == f"parked at {at(two_steps, 'sleep(6)')} on sleep, 1.0 s left"
        assert second == f"parked at {at(two_steps, 'Event().wait()')} on Event.wait"

    async def test_the_record_is_that_of_the_waiting_line(self, caplog):
        """Formatters and handlers see file, line and function of the coroutine that awaits, and the facts as extras."""
        asyncio.current_task().set_name("crawler")
        await crawl(5.5, log_completion="never")

        [record] = caplog.records
        here = place(crawl, "await impatient")
        assert (record.pathname, record.lineno, record.funcName) == (here.filename, here.lineno, here.function)
        assert (record.name, record.levelno, record.exc_info) == ("async_plus", logging.WARNING, None)
        extras = {key: value for key, value in vars(record).items() if key.startswith("async_plus_")}
        after = extras.pop("async_plus_after")
        assert after == pytest.approx(5)
        assert extras == {
            "async_plus_event": "LongWait",
            "async_plus_awaited": "fetch",
            "async_plus_task": "crawler",
            "async_plus_waiting_at": CRAWL,
            "async_plus_parked": f"at {FETCH} on sleep, 0.5 s left",
        }

    async def test_subscribers_get_a_typed_event(self):
        """The same facts for those who count or alert, with the place as a Place."""
        asyncio.current_task().set_name("crawler")
        with record_events() as found:
            await crawl(5.5)

        complaint, end = found
        assert complaint == LongWait(
            level=logging.WARNING,
            awaited="fetch",
            after=complaint.after,
            task="crawler",
            waiting_at=place(crawl, "await impatient"),
            parked=Parked(place(fetch, "asyncio.sleep"), "sleep, 0.5 s left"),
        )
        assert end == WaitOver(
            level=logging.WARNING,
            awaited="fetch",
            after=end.after,
            task="crawler",
            waiting_at=place(crawl, "await impatient"),
            outcome="returned",
            exception=None,
            long=True,
        )
        assert (complaint.after, end.after) == (pytest.approx(5), pytest.approx(5.5))

    async def test_log_level_is_the_level_of_complaints_and_completions(self, caplog):
        """It overrides both, whatever they would be."""
        await crawl(6, log_level=logging.ERROR)
        await crawl(6, log_level=logging.DEBUG)
        await crawl(1, log_level=logging.CRITICAL, log_completion="always")

        assert [level for level, _ in messages(caplog)] == ["ERROR", "ERROR", "DEBUG", "DEBUG", "CRITICAL"]

    async def test_a_level_that_nobody_wants_costs_no_look_at_the_task(self, caplog, monkeypatch):
        """With the logger at ERROR and no subscriber, nothing is found out."""
        caplog.set_level(logging.ERROR, logger="async_plus")
        monkeypatch.setattr("async_plus.stacks.chain", None)

        assert await crawl(80, "result") == "result"

        assert messages(caplog) == []

    async def test_two_waits_of_one_function_are_two_lines(self, caplog):
        """Each wait is told of for itself, in the order in which they began."""

        async def work():
            await impatient(fetch(7), log_after=5, log_completion="never")

        await asyncio.gather(work(), after(asyncio.sleep(1)), work())

        [first, second] = messages(caplog)
        assert first == second

    async def test_nested_waits_of_one_task_each_tell_of_their_own_part(self, caplog):
        """The outer one names the inner one's caller, and both name the innermost frame."""

        async def page():
            await impatient(fetch(10), log_after=5, log_completion="never")

        async def site():
            await impatient(page(), log_after=7, log_completion="never")

        await site()

        parked = f"parked at {FETCH} on sleep"
        assert messages(caplog) == [
            (
                "WARNING",
                f"Still waiting for fetch after 5.0 s at {at(page, 'await impatient')}; {parked}, 5.0 s left",
            ),
            (
                "WARNING",
                f"Still waiting for {page.__qualname__} after 7.0 s at {at(site, 'await impatient')};"
                f" {parked}, 3.0 s left",
            ),
        ]

    async def test_a_wait_directly_around_a_wait_has_the_same_place(self, caplog):
        """No line of async_plus stands between them."""

        async def twice():
            await impatient(impatient(fetch(10), log_after=6), log_after=5, log_completion="never")

        await twice()

        places = [text.partition(" s at ")[2].partition(";")[0] for _, text in messages(caplog)[:2]]
        assert places == [at(twice, "await impatient")] * 2
        assert [text.split()[3] for _, text in messages(caplog)[:2]] == ["impatient", "fetch"]


class Fetcher:
    """Its coroutines are named by their qualname."""

    async def fetch(self):
        await forever()


class Marked(asyncio.Future):
    """A future of the user's own."""


@virtual
class TestNames:
    """What is waited for is called by its qualname, or by its type, and never by its text."""

    @pytest.mark.parametrize(
        ("awaited", "name"),
        [
            (lambda: Fetcher().fetch(), "Fetcher.fetch"),
            (lambda: asyncio.sleep(60), "sleep"),
            (lambda: asyncio.Queue().get(), "Queue.get"),
            (lambda: asyncio.create_task(Fetcher().fetch()), "Fetcher.fetch"),
            (lambda: asyncio.create_task(Fetcher().fetch(), name="Fetcher 1"), "Fetcher.fetch"),
            (lambda: asyncio.get_running_loop().create_future(), "Future"),
            (lambda: Marked(), "Marked"),
            (lambda: Awaitable(forever()), "Awaitable"),
            (lambda: Lookalike(forever()), "Lookalike"),
            (lambda: generator_based(forever()), "generator_based"),
            (lambda: try_gather(Fetcher().fetch()), "try_gather"),
        ],
    )
    async def test_the_awaited_is_called_by_its_qualname_or_type(self, awaited, name, caplog):
        """A task goes by the name of what it runs."""
        awaited = awaited()
        task = await start(impatient(awaited, log_after=5))
        await asyncio.sleep(6)
        task.cancel()
        await asyncio.wait([task])

        complaint, end = (text for _, text in messages(caplog))
        assert complaint.startswith(f"Still waiting for {name} after 5.0 s ")
        assert end.startswith(f"{name} ")
        assert end.endswith(" was cancelled after 6.0 s")

    async def test_a_future_of_uvloop_is_called_future_too(self, caplog):
        """Whatever the loop's create_future makes."""
        [future] = futures(1)
        later(6, future.set_result, None)

        await impatient(future, log_after=5, log_completion="never")

        [(_, text)] = messages(caplog)
        assert text.startswith("Still waiting for Future after 5.0 s ")

    async def test_a_name_of_ones_own_goes_before(self, caplog):
        """`name` replaces the awaited's own in both records."""
        await crawl(6, name="the front page")

        assert [text.partition(" at ")[0] for _, text in messages(caplog)] == [
            "Still waiting for the front page after 5.0 s",
            "the front page",
        ]

    async def test_a_task_that_is_done_is_still_called_by_what_it_ran(self, caplog):
        """At the end of the wait it cannot be asked any more (gh-122332), so it was asked before."""
        task = asyncio.create_task(fetch(1))

        await impatient(task, log_completion="always")

        assert [text.split()[0] for _, text in messages(caplog)] == ["fetch"]

    async def test_an_eager_task_that_was_done_at_once_can_be_awaited(self, caplog):
        """Asking such a task for its coroutine crashed CPython 3.12.1 (gh-122332)."""
        task = asyncio.create_task(give(1))
        await turns()

        assert await impatient(task, log_completion="always") == 1

        [(_, text)] = messages(caplog)
        assert text.split()[0] in {"give", "Task"}


@virtual
class TestPlace:
    """The place is the awaiting line of user code, never a file of asyncio or async_plus."""

    @pytest.mark.parametrize(
        ("stacklevel", "line"), [(0, "inner"), (1, "middle"), (2, "outer"), (3, "outer"), (99, "outer")]
    )
    async def test_stacklevel_points_at_those_who_await_the_awaiter(self, stacklevel, line, caplog):
        """0 is the line of the await, 1 the line that awaits the function around it; too many: the outermost."""

        async def inner():
            await impatient(fetch(6), log_after=5, stacklevel=stacklevel)

        async def middle():
            await inner()

        async def outer():
            await middle()

        await asyncio.create_task(outer())

        where = {
            "inner": at(inner, "await impatient"),
            "middle": at(middle, "await inner()"),
            "outer": at(outer, "await middle()"),
        }[line]
        assert messages(caplog) == [
            ("WARNING", f"Still waiting for fetch after 5.0 s at {where}; parked at {FETCH} on sleep, 1.0 s left"),
            ("WARNING", f"fetch at {where} returned after 6.0 s"),
        ]
        assert [f"{r.pathname}:{r.lineno} in {r.funcName}" for r in caplog.records] == [where] * 2

    @pytest.mark.parametrize("stacklevel", [0, 1, 2, 99])
    async def test_stacklevel_counts_the_same_for_a_wait_that_was_not_complained_of(self, stacklevel, caplog):
        """At the end the task is running, and its frames are looked at in another way."""

        async def inner():
            await impatient(give(1), log_completion="always", stacklevel=stacklevel)

        async def middle():
            await inner()

        async def outer():
            await middle()

        await asyncio.create_task(outer())

        lines = [at(inner, "await impatient"), at(middle, "await inner()"), at(outer, "await middle()")]
        assert messages(caplog) == [("INFO", f"give at {lines[min(stacklevel, 2)]} returned after 0.0 s")]

    async def test_frames_of_the_standard_library_between_are_passed_over(self, caplog):
        """An exit stack, a timeout, wait_for (3.12 and newer): the line is that of the user's code around it."""

        async def work():
            async with asyncio.timeout(60):
                await asyncio.wait_for(impatient(fetch(6), log_after=5), 60)

        await work()

        # Before 3.12 wait_for runs what it is given in a task of its own, where nobody else awaits it.
        where = at(work, "wait_for") if sys.version_info >= (3, 12) else first_line(fetch)
        assert [text.partition(" s at ")[2].partition(";")[0] for _, text in messages(caplog)[:1]] == [where]
        assert messages(caplog)[1][1] == f"fetch at {where} returned after 6.0 s"

    async def test_an_async_generator_is_a_place_as_any_other(self, caplog):
        """The wait is found behind `async for`, and its line is in the generator; one level up is the loop."""

        async def pages(stacklevel):
            yield await impatient(fetch(6), log_after=5, stacklevel=stacklevel)

        async def read(stacklevel):
            async for _ in pages(stacklevel):
                pass

        await read(0)
        await read(1)

        first, second = at(pages, "await impatient"), at(read, "async for")
        assert messages(caplog) == [
            ("WARNING", f"Still waiting for fetch after 5.0 s at {first}; parked at {FETCH} on sleep, 1.0 s left"),
            ("WARNING", f"fetch at {first} returned after 6.0 s"),
            ("WARNING", f"Still waiting for fetch after 5.0 s at {second}; parked at {FETCH} on sleep, 1.0 s left"),
            ("WARNING", f"fetch at {second} returned after 6.0 s"),
        ]

    async def test_an_await_over_several_lines_is_at_its_first(self, caplog):
        """The line is where the `await` stands, not where its arguments end."""

        async def work():
            await impatient(
                fetch(
                    6,
                ),
                log_after=5,
            )

        await work()

        where = at(work, "await impatient")
        assert [text.partition("; ")[0] for _, text in messages(caplog)] == [
            f"Still waiting for fetch after 5.0 s at {where}",
            f"fetch at {where} returned after 6.0 s",
        ]

    async def test_nobody_awaits_it_so_it_is_the_awaited_function_itself(self, caplog):
        """As a task of its own it has no awaiter: the place is where the function begins."""
        await asyncio.create_task(impatient(fetch(6), log_after=5))
        await asyncio.create_task(impatient(give(1), log_completion="always"))

        assert messages(caplog) == [
            (
                "WARNING",
                f"Still waiting for fetch after 5.0 s at {first_line(fetch)}; parked at {FETCH} on sleep, 1.0 s left",
            ),
            ("WARNING", f"fetch at {first_line(fetch)} returned after 6.0 s"),
            ("INFO", f"give at {first_line(give)} returned after 0.0 s"),
        ]

    @pytest.mark.parametrize(
        ("awaited", "name", "parked"),
        [
            (lambda: asyncio.sleep(6), "sleep", "sleep, 1.0 s left"),
            (lambda: try_gather(asyncio.sleep(6)), "try_gather", "try_gather of 'sleeper'"),
            (lambda: asyncio.ensure_future(asyncio.sleep(6)), "sleep", "task 'sleeper'"),
        ],
        ids=["asyncio", "async_plus", "task"],
    )
    async def test_without_a_line_of_user_code_it_is_the_task(self, awaited, name, parked, caplog):
        """Where only asyncio and async_plus run, none of their files is named, only the task."""
        before = asyncio.all_tasks()
        task = asyncio.create_task(impatient(awaited(), log_after=5), name="background")
        await turns()
        for other in asyncio.all_tasks() - before - {task}:
            other.set_name("sleeper")
        await task

        assert messages(caplog) == [
            ("WARNING", f"Still waiting for {name} after 5.0 s in task 'background'; parked on {parked}"),
            ("WARNING", f"{name} in task 'background' returned after 6.0 s"),
        ]


@virtual
class TestCompletion:
    """How a wait ended is told after a complaint, always, or never."""

    @pytest.mark.parametrize(
        ("seconds", "outcome", "ending"),
        [
            (12.3, "result", "returned after 12.3 s"),
            (12.3, Boom("secret"), "raised Boom after 12.3 s"),
            (12.3, asyncio.CancelledError("secret"), "was cancelled after 12.3 s"),
            (12.3, TimeoutError(), "raised TimeoutError after 12.3 s"),
            # It began nearer to the time from which the loop counts.
            (1e9, "result", "returned after 1000000000.0 s"),
        ],
    )
    async def test_after_a_complaint_one_line_tells_the_outcome(self, seconds, outcome, ending, caplog):
        """The default: what was told of as hanging is told of as over, a WARNING too."""
        [ended] = await asyncio.gather(crawl(seconds, outcome), return_exceptions=True)

        assert ended is outcome or type(ended) is type(outcome) is asyncio.CancelledError
        *_, last = messages(caplog)
        assert last == ("WARNING", f"fetch at {CRAWL} {ending}")

    @pytest.mark.parametrize("outcome", ["result", Boom(), asyncio.CancelledError()])
    async def test_always_tells_of_short_waits_as_information(self, outcome, caplog):
        """Then `log_after` may be left out, and nothing is ever long."""
        await asyncio.gather(crawl(80, outcome, log_after=None, log_completion="always"), return_exceptions=True)

        ending = {str: "returned", Boom: "raised Boom", asyncio.CancelledError: "was cancelled"}[type(outcome)]
        assert messages(caplog) == [("INFO", f"fetch at {CRAWL} {ending} after 80.0 s")]

    async def test_always_with_log_after_tells_of_long_waits_as_warnings(self, caplog):
        """Short ones are INFO, complained ones WARNING."""
        await crawl(1, log_completion="always")
        await crawl(6, log_completion="always")

        assert messages(caplog) == [
            ("INFO", f"fetch at {CRAWL} returned after 1.0 s"),
            ("WARNING", f"Still waiting for fetch after 5.0 s at {CRAWL}; parked at {FETCH} on sleep, 1.0 s left"),
            ("WARNING", f"fetch at {CRAWL} returned after 6.0 s"),
        ]

    @pytest.mark.parametrize("outcome", ["result", Boom(), asyncio.CancelledError()])
    async def test_never_tells_of_no_end(self, outcome, caplog):
        """Only complaints are logged."""
        await asyncio.gather(crawl(6, outcome, log_completion="never"), return_exceptions=True)
        await asyncio.gather(crawl(1, outcome, log_completion="never"), return_exceptions=True)

        assert [text.partition(" after")[0] for _, text in messages(caplog)] == ["Still waiting for fetch"]

    async def test_the_record_of_an_end_has_no_traceback(self, caplog):
        """The exception goes on to the caller, and whoever handles it logs it. Its text may be a secret."""
        await asyncio.gather(crawl(6, Boom("secret")), return_exceptions=True)

        record = caplog.records[-1]
        assert (record.exc_info, record.exc_text, record.stack_info) == (None, None, None)
        assert record.async_plus_exception == "Boom"
        assert record.async_plus_outcome == "raised"

    @pytest.mark.parametrize("log_completion", ["never", "after_long_wait", "always"])
    @pytest.mark.parametrize("seconds", [1, 6])
    async def test_closing_a_waiting_coroutine_ends_the_wait_without_a_record(self, seconds, log_completion, caplog):
        """GeneratorExit is not how the wait ended: nobody saw that."""
        coroutine = impatient(forever(), log_after=5, log_completion=log_completion)
        coroutine.send(None)
        await asyncio.sleep(seconds)
        before = len(messages(caplog))

        coroutine.close()

        assert len(messages(caplog)) == before == (seconds > 5)
        assert waiting() == {}

    async def test_an_abandoned_wait_leaves_no_trace(self, caplog):
        """A coroutine that is thrown away while it waits is closed by the garbage collector."""
        coroutine = impatient(forever(), log_after=5, log_completion="always")
        coroutine.send(None)
        assert waiting() == {5: 1}

        del coroutine
        gc.collect()

        assert waiting() == {}
        assert messages(caplog) == []


@virtual
async def test_a_complaint_that_finds_the_task_gone_still_comes(caplog):
    """A wait entered by hand in one task may outlive it. It is told of all the same."""
    coroutine = impatient(forever(), log_after=5, log_completion="never")

    async def begin():
        coroutine.send(None)

    await asyncio.create_task(begin(), name="beginner")
    await asyncio.sleep(6)
    coroutine.close()

    [(_, text)] = messages(caplog)
    assert text.startswith("Still waiting for forever after 5.0 s at ")
    assert text.endswith("; parked on nothing, it is done")
