"""`task_scope`: launching, reporting, the live tasks, misuse.

The end of the block: test_scope_exit.py. `wait`: test_scope_wait.py, and test_scope_model.py against a model.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging

import pytest
from loops import each_loop
from tools import (
    Bang,
    Boom,
    after,
    facts_of,
    fail,
    forever,
    futures,
    give,
    here,
    no_garbage,
    noting,
    outlast,
    site_of,
    start,
    turns,
)

import async_plus
from async_plus import HandlerFailed, Place, TaskCancelled, TaskFailed, ignore, task_scope
from async_plus.testing import record_events

request_id = contextvars.ContextVar("request_id", default="none")

exits = pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])


def ours(caplog):
    return [record for record in caplog.records if record.name == "async_plus"]


async def stop_itself():
    """End in a cancellation that nobody requested."""
    raise asyncio.CancelledError


class TestLaunch:
    async def test_it_starts_a_plain_task_around_the_coroutine_itself(self):
        """No wrapper stands between, so that names and stacks stay true."""
        coro = forever()

        async with task_scope() as scope:
            task = scope.launch(coro)

            assert type(task) is asyncio.Task
            assert task.get_coro() is coro

    async def test_the_task_can_be_awaited_for_its_result(self):
        """As any task."""
        async with task_scope() as scope:
            assert await scope.launch(give(5)) == 5

    async def test_it_takes_what_it_took_before_1_0(self):
        """Name and handler may be given by position, and the scope's handler too."""
        assert str(inspect.signature(task_scope.launch)).startswith(
            "(self, coro: 'Coroutine[Any, Any, _T]', name: 'str | None' = None, "
            "on_exception: 'ExceptionHandler | None' = None, *, context: 'Context | None' = None)"
        )
        seen = []

        def note(what):
            return lambda task, exc: seen.append((what, task.get_name()))

        async with task_scope(note("scope's")) as scope:
            scope.launch(fail(Boom()), "first")
            scope.launch(fail(Boom()), "second", note("own"))
            await turns()

        assert seen == [("scope's", "first"), ("own", "second")]

    async def test_any_task_and_callback_of_the_loop_may_launch(self):
        """The host, a child, a stranger, a callback of the loop."""
        log = []

        async def child(scope):
            scope.launch(noting(log, "grandchild", give(1)))

        async def stranger(scope):
            scope.launch(noting(log, "stranger's", give(1)))

        async with task_scope() as scope:
            scope.launch(child(scope))
            await asyncio.create_task(stranger(scope))
            asyncio.get_running_loop().call_soon(lambda: scope.launch(noting(log, "callback's", give(1))))
            await turns()

        assert sorted(log) == [("callback's", "ended"), ("grandchild", "ended"), ("stranger's", "ended")]

    async def test_it_runs_in_a_copy_of_the_launchers_context_or_in_the_one_given(self):
        """As with ``create_task``."""
        given = contextvars.copy_context()
        given.run(request_id.set, "given")
        request_id.set("outer")

        async def child():
            seen = request_id.get()
            request_id.set("inner")
            return seen

        async with task_scope() as scope:
            assert await scope.launch(child()) == "outer"
            assert await scope.launch(child(), "named", context=given) == "given"
            assert request_id.get() == "outer"
            assert given[request_id] == "inner"

    async def test_another_thread_launches_through_the_loop(self):
        """The way that its refusal tells of."""
        log = []

        async with task_scope() as scope:
            await asyncio.to_thread(
                asyncio.get_running_loop().call_soon_threadsafe, scope.launch, noting(log, "child", give(1))
            )
            await turns()

        assert log == [("child", "ended")]


class TestReport:
    async def test_a_failure_is_logged_with_traceback_name_and_launch_site(self, caplog):
        """At once and once: one ERROR, its file, line and function those of the launch."""
        with record_events() as events:
            async with task_scope(name="feeds") as scope:
                site = here(+1)
                task = scope.launch(fail(Boom("hunter2")), name="feed")
                await turns()

                [record] = caplog.records

        error = task.exception()
        place = "{}:{} in {}".format(*site)
        assert caplog.records == [record]
        assert record.name == "async_plus"
        assert record.levelno == logging.ERROR
        assert record.getMessage() == f"task 'feed' failed with Boom, launched at {place}"
        assert site_of(record) == site
        assert record.exc_info == (Boom, error, error.__traceback__)
        assert facts_of(record) == {"event": "TaskFailed", "task": "feed", "launched_at": place, "exception": "Boom"}
        assert events == [TaskFailed(task="feed", launched_at=Place(*site), exception=error)]

    async def test_a_failure_cancels_neither_siblings_nor_body(self, caplog):
        """Children are independent."""
        [go] = futures(1)

        async with task_scope() as scope:
            scope.launch(fail(Boom()))
            sibling = scope.launch(after(go, 5))
            await turns()
            go.set_result(None)

            assert await sibling == 5
            assert asyncio.current_task().cancelling() == 0

        assert len(caplog.records) == 1

    async def test_a_failure_in_a_task_group_cancels_siblings_and_body(self):
        """The same with `asyncio.TaskGroup`, which is all or nothing."""
        log = []

        async def host():
            async with asyncio.TaskGroup() as group:
                group.create_task(noting(log, "sibling", forever()))
                await turns()
                group.create_task(fail(Boom()))
                await noting(log, "body", forever())

        with pytest.raises(ExceptionGroup):
            # In a task of its own: the group leaves its host's `cancelling()` raised (gh-116720).
            await asyncio.create_task(host())

        assert sorted(log) == [
            ("body", "CancelledError"),
            ("body", "ended"),
            ("sibling", "CancelledError"),
            ("sibling", "ended"),
        ]

    async def test_the_handler_of_the_scope_replaces_the_report(self, caplog):
        """It gets the task and its exception; nothing is logged."""
        seen = []
        with record_events() as events:
            async with task_scope(lambda task, exc: seen.append((task, exc))) as scope:
                task = scope.launch(fail(Boom()))
                await turns()

        assert seen == [(task, task.exception())]
        assert (caplog.records, events) == ([], [])

    async def test_the_handler_of_a_launch_replaces_that_of_the_scope(self):
        """For this task only, even if it is false."""

        class Errors(list):
            def __call__(self, task, exc):
                self.append(exc)

        own, scopes = Errors(), Errors()
        errors = [Boom(), Bang()]

        async with task_scope(scopes) as scope:
            scope.launch(fail(errors[0]), on_exception=own)
            scope.launch(fail(errors[1]))
            await turns()

        assert (own, scopes) == ([errors[0]], [errors[1]])

    async def test_ignore_leaves_the_failure_to_whoever_awaits_the_task(self, caplog):
        """Given to the scope, or to a launch."""
        async with task_scope(ignore) as scope:
            with pytest.raises(Boom):
                await scope.launch(fail(Boom()))
        async with task_scope() as scope:
            with pytest.raises(Boom):
                await scope.launch(fail(Boom()), on_exception=ignore)

        assert caplog.records == []

    async def test_a_handler_that_raises_is_logged_beside_the_failure(self, caplog):
        """Two records; siblings and body go on."""

        def handler(task, exc):
            raise Bang

        async with task_scope(handler) as scope:
            sibling = scope.launch(forever())
            with record_events() as events:
                scope.launch(fail(Boom()), "feed")
                await turns()
            assert not sibling.done()

        assert [type(event) for event in events] == [TaskFailed, HandlerFailed]
        assert [facts_of(record)["exception"] for record in caplog.records] == ["Boom", "Bang"]

    async def test_a_handler_may_launch_into_its_scope(self):
        """A restart by hand; a `wait` goes on until the last one has ended."""
        attempts = []

        async def service():
            attempts.append(len(attempts))
            if len(attempts) < 3:
                raise Boom

        async with task_scope(lambda task, exc: scope.launch(service())) as scope:
            scope.launch(service())
            await scope.wait(return_when=asyncio.ALL_COMPLETED)
            assert attempts == [0, 1, 2]

    async def test_a_requested_cancellation_is_silent(self, caplog):
        """Before the first step or later."""
        async with task_scope() as scope:
            tasks = [scope.launch(forever())]
            await turns()
            tasks.append(scope.launch(forever()))
            for task in tasks:
                task.cancel()
            await turns()
            assert len(scope) == 0

        assert caplog.records == []

    async def test_a_cancellation_that_nobody_requested_is_a_warning(self, caplog):
        """Once, with the launch site. There is no failure, so `on_exception` is not called."""
        seen = []
        with record_events() as events:
            async with task_scope(lambda *args: seen.append(args)) as scope:
                site = here(+1)
                scope.launch(stop_itself(), "feed")
                await turns()

        [record] = caplog.records
        place = "{}:{} in {}".format(*site)
        assert record.levelno == logging.WARNING
        assert record.getMessage() == f"task 'feed' was cancelled without a request to cancel it, launched at {place}"
        assert site_of(record) == site
        assert events == [TaskCancelled(task="feed", launched_at=Place(*site))]
        assert seen == []

    async def test_one_that_ends_in_a_foreign_cancellation_after_our_request_is_silent(self, caplog):
        """It was told to stop and it stopped; by what way is its own affair."""

        async def child(inner):
            try:
                await forever()
            finally:
                asyncio.current_task().uncancel()
                inner.cancel()
                await inner

        inner = await start(forever())
        async with task_scope() as scope:
            task = scope.launch(child(inner))
            await turns()

        assert task.cancelled()
        assert task.cancelling() == 0
        assert caplog.records == []

    @exits
    @each_loop
    def test_an_exit_in_a_child_ends_the_program_in_order(self, kind, loop_factory, caplog, no_leaks):
        """The loop itself raises it; it is never logged, and siblings clean up within the scope."""
        log, handled = [], []

        async def leave():
            await asyncio.sleep(0)
            raise kind(3)

        async def host():
            async with task_scope(lambda *args: handled.append(args)) as scope:
                scope.launch(noting(log, "sibling", forever()))
                scope.launch(leave())
                await noting(log, "body", forever())

        with (
            record_events() as events,
            pytest.raises(kind),
            asyncio.Runner(loop_factory=loop_factory) as runner,
        ):
            runner.run(noting(log, "host", host()))

        assert [entry for entry in log if entry[1] == "ended"][-1] == ("host", "ended")
        assert {entry[0] for entry in log} == {"sibling", "body", "host"}
        assert handled == []
        assert (caplog.records, events, no_leaks.errors) == ([], [], [])

    @exits
    @each_loop
    def test_a_handler_that_exits_the_program_does(self, kind, loop_factory, caplog, no_leaks):
        """``sys.exit()`` in a handler ends the loop, and the siblings are stopped in order."""
        log = []

        def handler(task, exc):
            raise kind(3)

        async def main():
            async with task_scope(handler) as scope:
                scope.launch(noting(log, "sibling", forever()))
                scope.launch(fail(Boom()))
                await scope.wait(return_when=asyncio.ALL_COMPLETED)

        with pytest.raises(kind), asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

        assert log == [("sibling", "CancelledError"), ("sibling", "ended")]
        assert (caplog.records, no_leaks.errors) == ([], [])


class TestLiveTasks:
    async def test_len_and_tasks_tell_those_that_are_not_done(self):
        """A task that ended counts no more, even if nothing has run since."""
        async with task_scope() as scope:
            assert (len(scope), scope.tasks) == (0, frozenset())

            [go] = futures(1)
            first, second = scope.launch(after(go)), scope.launch(forever())
            assert len(scope) == 2
            assert scope.tasks == {first, second}

            go.set_result(None)
            await first
            assert len(scope) == 1
            assert scope.tasks == {second}

        assert (len(scope), scope.tasks) == (0, frozenset())

    async def test_a_task_that_is_done_is_not_told_although_its_end_was_not_noticed_yet(self):
        """Its callbacks, ours among them, run a moment later."""
        seen = []

        async with task_scope() as scope:
            [go] = futures(1)
            task = scope.launch(after(go), "child")
            # The child ends in the callback of the future; what is scheduled here comes before its own callbacks.
            await turns()
            go.add_done_callback(lambda _: asyncio.get_running_loop().call_soon(look))

            def look():
                seen.append((task.done(), len(scope), scope.tasks, repr(scope)))

            go.set_result(None)
            await turns()

        assert seen == [(True, 0, frozenset(), "<task_scope open, tasks=0>")]

    async def test_tasks_is_a_copy(self):
        """It stays as it was, so that a loop over it may await."""
        async with task_scope() as scope:
            task = scope.launch(asyncio.sleep(0))
            tasks = scope.tasks
            await turns()
            assert tasks == {task}
            assert scope.tasks == frozenset()

    async def test_tasks_of_another_kind_count(self):
        """A factory may make tasks that are no `asyncio.Task`: those written in Python, say."""
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **options: asyncio.tasks._PyTask(coro, loop=loop, **options))

        async with task_scope() as scope:
            task = scope.launch(forever())
            assert (len(scope), scope.tasks) == (1, {task})
            await turns()

        assert task.cancelled()

    async def test_a_scope_is_true_even_if_it_is_empty(self):
        """So that ``if scope:`` tells it from None."""
        scope = task_scope()
        assert bool(scope) is True
        assert len(scope) == 0
        async with scope:
            assert bool(scope) is True

    async def test_repr_tells_name_state_and_number_of_tasks(self):
        """Of each state that a scope goes through."""
        log, [released] = [], futures(1)
        scope = task_scope(name="feeds")

        async def child():
            try:
                await forever()
            finally:
                log.append(repr(scope))
                await outlast(released)

        log.append(repr(scope))
        log.append(repr(task_scope()))
        async with scope:
            log.append(repr(scope))
            scope.launch(child())
            await turns()
            asyncio.get_running_loop().call_later(0, released.set_result, None)
            log.append(repr(scope))
        log.append(repr(scope))

        assert log == [
            "<task_scope 'feeds' not entered, tasks=0>",
            "<task_scope not entered, tasks=0>",
            "<task_scope 'feeds' open, tasks=0>",
            "<task_scope 'feeds' open, tasks=1>",
            "<task_scope 'feeds' ending, tasks=1>",
            "<task_scope 'feeds' closed, tasks=0>",
        ]


class TestCancel:
    async def test_it_cancels_every_live_task_and_the_scope_stays_open(self, caplog):
        """Those launched later are not affected."""
        async with task_scope() as scope:
            tasks = [scope.launch(forever()), scope.launch(forever())]
            await turns()

            scope.cancel()
            later = scope.launch(give(5))
            await turns()

            assert all(task.cancelled() for task in tasks)
            assert await later == 5
        assert caplog.records == []

    async def test_it_uses_up_the_one_cancellation_of_each(self):
        """Neither a second call nor the end of the block repeats it, so that a cleanup is not disturbed."""
        log, [released] = [], futures(1)

        async def child():
            try:
                await forever()
            finally:
                await noting(log, "cleanup", released)

        async with task_scope() as scope:
            task = scope.launch(child())
            await turns()
            scope.cancel()
            scope.cancel()
            await turns()
            asyncio.get_running_loop().call_later(0, released.set_result, None)

        assert log == [("cleanup", "ended")]
        assert task.cancelling() == 1

    async def test_it_leaves_alone_what_is_done(self, no_leaks):
        """To cancel a failed task would only mark its exception as seen."""
        [go] = futures(1)

        async with task_scope(ignore) as scope:
            task = scope.launch(after(go, Boom()))
            await turns()
            go.add_done_callback(lambda _: asyncio.get_running_loop().call_soon(scope.cancel))
            go.set_result(None)
            await turns()

        assert isinstance(task.exception(), Boom)
        assert task.cancelling() == 0

    async def test_it_does_nothing_without_live_tasks(self):
        """Before the entry, when empty, and after the end."""
        scope = task_scope()
        scope.cancel()
        async with scope:
            scope.cancel()
            assert await scope.launch(give(5)) == 5
        scope.cancel()

    async def test_a_child_may_cancel_its_own_scope(self, caplog):
        """It is cancelled itself, at its next await."""
        went_on, log = [], []

        async def child():
            scope.cancel()
            went_on.append(True)
            await noting(log, "child", forever())

        async with task_scope() as scope:
            scope.launch(noting(log, "sibling", forever()))
            await turns()
            scope.launch(child())
            await scope.wait()

        assert went_on == [True]
        assert sorted(log) == [
            ("child", "CancelledError"),
            ("child", "ended"),
            ("sibling", "CancelledError"),
            ("sibling", "ended"),
        ]
        assert caplog.records == []


class TestForm:
    def test_it_is_a_class(self):
        """Not a function that makes a context manager, so that it can be named in annotations."""
        assert isinstance(task_scope, type)
        assert async_plus.task_scope is task_scope

    def test_its_options_are_these(self):
        """The handler may be given by position, the others by name only."""
        assert str(inspect.signature(task_scope)) == (
            "(on_exception: 'ExceptionHandler | None' = None, *, drain: 'float' = 0, warn_after: 'float' = 5.0, "
            "name: 'str | None' = None) -> 'None'"
        )

    async def test_a_scope_with_a_failed_child_leaves_no_reference_cycle(self):
        """Everything goes at once when it is left (gh-124958)."""

        async def crash():
            await asyncio.sleep(0)
            raise Boom

        async def host():
            async with task_scope(ignore) as scope:
                scope.launch(crash())
                scope.launch(forever())
                await scope.wait()

        with no_garbage():
            await asyncio.create_task(host())
