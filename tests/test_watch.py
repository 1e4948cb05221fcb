"""`launch_watched`: a background task is kept alive, and its failure is seen at once.

Its handlers: test_watch_handlers.py. What it does not take: test_watch_arguments.py. What a scope does with its tasks
is in test_scope.py; both launch and report in the same way.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import logging
import sys
import traceback
import weakref

import pytest
from loops import each_loop
from tools import (
    Bang,
    Boom,
    Lookalike,
    after,
    closed,
    crash,
    facts_of,
    fail,
    fail_when_cancelled,
    forever,
    futures,
    give,
    here,
    messages,
    no_garbage,
    no_garbage_of_reports,
    noting,
    outlast,
    site_of,
    start,
    turns,
    watched,
)

import async_plus
from async_plus import TaskCancelled, TaskFailed, ignore, launch_watched
from async_plus.testing import record_events

SECRET = "hunter2"

request_id = contextvars.ContextVar("request_id", default="none")

exits = pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])


async def fail_afresh():
    """Fail in the first step, with an exception that nobody else holds."""
    raise Boom


async def stop_itself():
    """End in a cancellation that nobody requested."""
    raise asyncio.CancelledError


class TestTask:
    async def test_it_is_a_plain_task_around_the_coroutine_itself(self):
        """No wrapper stands between, so that names and stacks stay true."""
        coro = forever()

        task = launch_watched(coro)

        assert type(task) is asyncio.Task
        assert task.get_coro() is coro
        assert [frame.f_code for frame in task.get_stack()] == [forever.__code__]
        task.cancel()
        await turns()

    async def test_it_can_be_awaited_for_its_result(self):
        """As any task."""
        assert await launch_watched(give(5)) == 5

    async def test_it_takes_what_it_took_before_1_0(self):
        """Name and handler may be given by position."""
        assert str(inspect.signature(launch_watched)).startswith(
            "(coro: 'Coroutine[Any, Any, _T]', name: 'str | None' = None, "
            "on_exception: 'ExceptionHandler | None' = None, *, context: 'Context | None' = None)"
        )
        seen = []

        task = launch_watched(fail(Boom()), "saver", lambda task, exc: seen.append((task, exc)))
        await turns()

        assert task.get_name() == "saver"
        assert seen == [(task, task.exception())]

    async def test_a_coroutine_that_is_one_by_its_methods_only_will_do(self):
        """Those of Cython, and of aiohttp's ``session.get()``."""
        assert await launch_watched(Lookalike(give(5))) == 5

    async def test_it_runs_in_a_copy_of_the_current_context(self):
        """What it sets there is not seen outside."""
        request_id.set("outer")

        async def child():
            seen = request_id.get()
            request_id.set("inner")
            return seen

        assert await launch_watched(child()) == "outer"
        assert request_id.get() == "outer"

    @pytest.mark.parametrize("name", [None, "saver"])
    async def test_it_runs_in_the_context_it_is_given(self, name):
        """The given context itself, with a name or without."""
        context = contextvars.copy_context()
        context.run(request_id.set, "given")

        async def child():
            seen = request_id.get()
            request_id.set("changed")
            return seen

        task = launch_watched(child(), name, context=context)

        assert await task == "given"
        assert context[request_id] == "changed"
        assert (task.get_name() == "saver") == (name is not None)

    async def test_nothing_is_logged_of_a_task_that_returns(self, caplog):
        """Success is silent."""
        with record_events() as events:
            launch_watched(give(SECRET))
            await turns()

        assert (caplog.records, events) == ([], [])


class TestStrongReference:
    async def test_it_lives_until_it_is_done_although_nobody_holds_it(self):
        """The loop itself keeps tasks by weak references only (gh-91887)."""
        future = weakref.ref(start_waiting(launch_watched))
        gc.collect()

        assert watched() == 1
        future().set_result(None)
        await turns()
        assert future() is None

    async def test_asyncio_loses_such_a_task(self, no_leaks):
        """The same with ``create_task``: the task vanishes in the middle (gh-91887)."""
        future = weakref.ref(start_waiting(asyncio.create_task))
        await turns()
        gc.collect()

        assert future() is None
        [record] = no_leaks.errors
        assert record.getMessage().startswith("Task was destroyed but it is pending!")
        no_leaks.errors.clear()

    async def test_it_is_let_go_as_soon_as_it_is_done(self):
        """Without waiting for the garbage collector, whether it returned, failed or was cancelled."""
        tasks = [launch_watched(give(1)), launch_watched(crash(0), None, ignore), launch_watched(forever())]
        tasks[2].cancel()
        await turns()
        dead = [weakref.ref(task) for task in tasks]

        with no_garbage():
            del tasks
            assert [ref() for ref in dead] == [None] * 3
        assert watched() == 0


def start_waiting(launch):
    """Start a task that waits for a future which nothing but the task refers to; return the future."""
    [future] = futures(1)

    async def wait(future):
        await future

    launch(wait(future))
    return future


class TestReport:
    async def test_a_failure_is_logged_with_traceback_name_and_launch_site(self, caplog):
        """One ERROR; its file, line and function are those of the launch, in any mode of the loop."""
        site = here(+1)
        task = launch_watched(fail(Boom(SECRET)), name="saver")
        with record_events() as events:
            await turns()

        [record] = caplog.records
        error = task.exception()
        assert record.name == "async_plus"
        assert record.levelno == logging.ERROR
        place = "{}:{} in {}".format(*site)
        assert record.getMessage() == f"task 'saver' failed with Boom, launched at {place}"
        assert record.msg == "task %r failed with %s, launched at %s"
        assert site_of(record) == site
        assert record.exc_info == (Boom, error, error.__traceback__)
        assert [frame.name for frame in traceback.extract_tb(record.exc_info[2])] == ["fail"]
        assert facts_of(record) == {
            "event": "TaskFailed",
            "task": "saver",
            "launched_at": place,
            "exception": "Boom",
        }
        assert events == [
            TaskFailed(task="saver", launched_at=async_plus.Place(*site), exception=error),
        ]

    async def test_a_failure_is_logged_as_soon_as_it_is_raised(self, caplog):
        """Others that run go on, and nothing needs to be awaited or collected."""
        [go] = futures(1)
        task = launch_watched(after(go, Boom()))
        other = launch_watched(forever())
        await turns()
        assert caplog.records == []

        go.set_result(None)
        await turns(3)

        assert [record.exc_info[1] for record in caplog.records] == [task.exception()]
        assert not other.done()
        other.cancel()
        await turns()

    async def test_asyncio_says_nothing_until_the_task_is_collected(self, caplog, no_leaks):
        """The same with ``create_task``: as long as somebody holds it, nobody hears of the failure."""
        task = asyncio.create_task(fail(Boom()))
        await turns()

        assert (caplog.records, no_leaks.errors) == ([], [])
        assert task.done()
        task.exception()

    async def test_a_failure_that_is_also_awaited_is_logged_once(self, caplog):
        """Awaiting does not undo the report, nor repeat it."""
        task = launch_watched(fail(Boom()), "saver")

        for _ in range(2):
            with pytest.raises(Boom):
                await task
        await turns()

        [record] = caplog.records
        assert record.exc_info[1] is task.exception()

    async def test_the_line_is_that_where_the_call_begins(self, caplog):
        """A call may span lines."""
        site = here(+1)
        launch_watched(
            fail(Boom()),
            name="saver",
        )
        await turns()

        [record] = caplog.records
        assert site_of(record) == site

    async def test_each_task_has_a_launch_site_of_its_own(self, caplog):
        """Two lines of one function are two places, and so are two calls of one line's function."""
        site = here(+1)
        tasks = [launch_watched(fail(Boom())), launch_watched(fail(Boom()))]
        tasks += [launch_watched(fail(Boom()))]
        await asyncio.wait(tasks)
        await turns()

        assert [site_of(record) for record in caplog.records] == [site, site, (site[0], site[1] + 1, site[2])]

    async def test_texts_of_the_user_appear_in_the_traceback_only(self, caplog):
        """Exception texts, arguments and results may be secrets."""
        with record_events() as events:
            launch_watched(fail(Boom(SECRET)))
            await turns()

        [record], [event] = caplog.records, events
        assert SECRET not in record.getMessage()
        assert SECRET not in str(event)
        assert SECRET not in str(facts_of(record))

    async def test_a_task_without_a_name_is_told_by_the_name_asyncio_gave_it(self, caplog):
        """That is what the log of asyncio calls it, too."""
        [go] = futures(1)
        task = launch_watched(after(go, Boom()))
        go.set_result(None)
        await turns()

        [record] = caplog.records
        # Through the eager factory CPython 3.13.0 gives it none.
        assert facts_of(record)["task"] == ("after" if task.get_name() == "None" else task.get_name())

    async def test_a_task_named_none_by_its_factory_is_told_by_its_coroutine(self, caplog):
        """CPython 3.13.0 names each nameless task "None" if a factory makes it, the eager one for example."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, name="None"))

        task = launch_watched(fail(Boom()))
        await turns()

        [record] = caplog.records
        assert task.get_name() == "None"
        assert facts_of(record)["task"] == "fail"

    async def test_tasks_of_another_kind_are_watched_as_well(self, caplog):
        """A factory may make tasks that are no `asyncio.Task`: those written in Python, say."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **options: asyncio.tasks._PyTask(coro, loop=loop, **options))

        failed = launch_watched(fail(Boom()), "failed")
        cancelled = launch_watched(stop_itself(), "cancelled")
        stopped = launch_watched(forever(), "stopped")
        await turns()
        stopped.cancel()
        await turns()

        assert not isinstance(failed, asyncio.Task)
        assert cancelled.cancelled()
        assert stopped.cancelled()
        assert [facts_of(record)["task"] for record in caplog.records] == ["failed", "cancelled"]

    @pytest.mark.parametrize("error", [Boom(), ExceptionGroup("", [Boom()]), GeneratorExit()])
    async def test_any_error_is_reported(self, error, caplog):
        """Groups, and what is no Exception, too."""
        launch_watched(fail(error))
        await turns()

        [record] = caplog.records
        assert record.exc_info[1] is error

    async def test_the_report_of_a_failure_leaves_no_reference_cycle(self):
        """A failed task goes at once, with its frames (gh-124958)."""
        with no_garbage_of_reports():
            launch_watched(crash(0))
            await turns()


class TestCancellation:
    async def test_a_requested_one_is_silent(self, caplog):
        """Whoever cancelled it knows."""
        task = launch_watched(forever())
        await turns()

        task.cancel()
        await turns()

        assert task.cancelled()
        assert caplog.records == []

    async def test_a_requested_one_is_silent_before_the_first_step(self, caplog):
        """The coroutine is closed then, and not warned of as never awaited."""
        coro = forever()
        task = launch_watched(coro)

        task.cancel()
        await turns()

        assert task.cancelled()
        assert closed(coro)
        assert caplog.records == []

    async def test_one_that_nobody_requested_is_a_warning(self, caplog):
        """Once, with the launch site; there is no failure, so `on_exception` is not called."""
        seen = []
        site = here(+1)
        task = launch_watched(stop_itself(), "saver", lambda *args: seen.append(args))
        with record_events() as events:
            await turns()

        [record] = caplog.records
        place = "{}:{} in {}".format(*site)
        assert task.cancelled()
        assert record.name == "async_plus"
        assert record.levelno == logging.WARNING
        assert record.getMessage() == f"task 'saver' was cancelled without a request to cancel it, launched at {place}"
        assert site_of(record) == site
        assert record.exc_info is None
        assert facts_of(record) == {"event": "TaskCancelled", "task": "saver", "launched_at": place}
        assert events == [TaskCancelled(task="saver", launched_at=async_plus.Place(*site))]
        assert seen == []

    async def test_one_that_comes_from_something_awaited_is_not_requested(self, caplog):
        """The usual way to lose a task without a word: what it waits for is cancelled by somebody else."""
        inner = await start(forever())
        launch_watched(after(inner), "saver")
        await turns()

        inner.cancel()
        await turns()

        assert [(record.levelname, facts_of(record)["task"]) for record in caplog.records] == [("WARNING", "saver")]

    async def test_an_error_raised_instead_is_reported(self, caplog):
        """A failure of the cleanup is a failure."""
        task = launch_watched(fail_when_cancelled(Boom()))
        await turns()

        task.cancel()
        await turns()

        [record] = caplog.records
        assert record.levelno == logging.ERROR
        assert record.exc_info[1] is task.exception()

    async def test_one_that_is_swallowed_is_silent(self, caplog):
        """It ended well, as it seems."""
        [released] = futures(1)
        task = launch_watched(outlast(released))
        await turns()

        task.cancel()
        await turns()
        released.set_result(5)

        assert await task == 5
        assert caplog.records == []


async def leave(kind):
    """End the program, but not in the first step."""
    await asyncio.sleep(0)
    raise kind(3)


class TestExit:
    @exits
    @each_loop
    def test_an_exit_in_the_task_ends_the_loop_and_is_not_reported(self, kind, loop_factory, caplog, no_leaks):
        """The loop itself raises it, and whoever runs the loop stops the other tasks, as asyncio has it."""
        log, handled = [], []

        async def main():
            launch_watched(noting(log, "other", forever()))
            launch_watched(leave(kind), on_exception=lambda *args: handled.append(args))
            await forever()

        with record_events() as events:
            with pytest.raises(kind), asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(main())
            gc.collect()

        assert log == [("other", "CancelledError"), ("other", "ended")]
        assert handled == []
        assert (caplog.records, events, no_leaks.errors) == ([], [], [])


if sys.version_info >= (3, 12):

    @pytest.mark.asyncio(loop_factories=["eager"])
    class TestEager:
        """Under an eager task factory the first step runs inside the launch (3.12+)."""

        async def test_a_task_may_be_done_when_it_is_returned(self, caplog):
            """It is neither reported nor kept; its `get_coro()` is never asked (gh-122332)."""
            task = launch_watched(give(5))

            assert task.done()
            assert await task == 5
            await turns()
            assert watched() == 0
            assert caplog.records == []

        async def test_a_task_may_have_failed_when_it_is_returned(self, caplog):
            """It is reported under its own name, although it got that after its failure only."""
            task = launch_watched(fail(Boom()), "saver")
            assert task.done()
            await turns()

            [record] = caplog.records
            assert facts_of(record)["task"] == "saver"
            assert record.exc_info[1] is task.exception()

        async def test_a_failed_task_without_a_name_is_reported_without_asking_for_its_coroutine(self, caplog):
            """To ask ends CPython 3.12.1 with a segmentation fault (gh-122332). CPython 3.13.0 gives it no name."""
            task = launch_watched(fail(Boom()))
            await turns()

            [record] = caplog.records
            assert facts_of(record)["task"] == ("Task" if task.get_name() == "None" else task.get_name())

        async def test_a_task_may_launch_others_in_its_first_step(self, caplog):
            """Each is watched, the inner before the outer."""

            async def outer():
                launch_watched(fail(Boom()), "inner")
                raise Bang

            launch_watched(outer(), "outer")
            await turns()

            assert [facts_of(record)["task"] for record in caplog.records] == ["inner", "outer"]
            assert watched() == 0

        async def test_a_cancellation_in_the_first_step_that_nobody_requested_is_a_warning(self, caplog):
            """As in any later one."""
            launch_watched(stop_itself(), "saver")
            await turns()

            assert [(record.levelname, facts_of(record)["task"]) for record in caplog.records] == [("WARNING", "saver")]

        async def test_a_failure_in_the_first_step_leaves_no_reference_cycle(self, monkeypatch):
            """Its traceback leads to the frames it was launched from, so they may not hold the task (gh-128552)."""
            loop = asyncio.get_running_loop()
            # The `create_task` of CPython 3.12.1 and 3.13.0 holds it.
            monkeypatch.setattr(loop, "create_task", functools.partial(asyncio.Task, loop=loop, eager_start=True))

            def launch():
                launch_watched(fail_afresh(), on_exception=ignore)

            with no_garbage():
                launch()
                await turns()

        @exits
        async def test_an_exit_in_the_first_step_comes_out_of_the_launch(self, kind, caplog, no_leaks):
            """Out of ``create_task`` itself, that is; asyncio's own complaint about that task is accepted."""
            with pytest.raises(kind):
                launch_watched(fail(kind(3)))
            gc.collect()

            assert watched() == 0
            assert [record for record in caplog.records if record.name == "async_plus"] == []
            no_leaks.errors.clear()


class TestMessages:
    async def test_several_failures_are_several_records_in_order(self, caplog):
        """Each as it comes."""
        go = futures(3)
        for number in (2, 0, 1):
            launch_watched(after(go[number], Boom()), f"task {number}")
            await turns()

        for future in go:
            future.set_result(None)
            await turns()

        assert [text.partition(",")[0] for _, text in messages(caplog)] == [
            "task 'task 0' failed with Boom",
            "task 'task 1' failed with Boom",
            "task 'task 2' failed with Boom",
        ]
