"""`try_gather`: results in order, or the first error and nothing left running.

What it takes: test_gather_arguments.py. Its limit: test_gather_limit.py. In company: test_gather_nesting.py.
"""

from __future__ import annotations

import asyncio
import contextvars
import re
import traceback

import pytest
from tools import (
    Awaitable,
    Bang,
    Boom,
    Lookalike,
    after,
    closed,
    fail,
    fail_when_cancelled,
    forever,
    futures,
    generator_based,
    give,
    messages,
    noting,
    numbers,
    outlast,
    refused,
    start,
    turns,
)

from async_plus import UnexpectedCancellation, impatient, supervised, try_gather

request_id = contextvars.ContextVar("request_id", default="none")


class TestResults:
    async def test_results_come_in_the_order_of_the_arguments(self):
        """Whatever the order in which they finish."""
        first, second, third = futures(3)
        host = await start(try_gather(after(first, "a"), after(second, "b"), after(third, "c")))

        for future in (third, first, second):
            future.set_result(None)
            await turns()

        assert await host == ["a", "b", "c"]

    async def test_nothing_gives_an_empty_list(self):
        """No arguments are fine, with a limit or without."""
        assert await try_gather() == []
        assert await try_gather(limit=3) == []

    async def test_the_result_is_a_list_whatever_the_values(self):
        """None, exceptions as values and equal values are results like others."""
        error = Boom()

        results = await try_gather(give(None), give(error), give(1), give(1), give([]))

        assert type(results) is list
        assert results == [None, error, 1, 1, []]

    async def test_all_run_at_the_same_time(self):
        """Each waits for the others, which only works together."""
        met = asyncio.Barrier(3)

        assert sorted(await try_gather(met.wait(), met.wait(), met.wait())) == [0, 1, 2]

    @pytest.mark.parametrize(
        "make",
        [
            give,
            lambda value: asyncio.create_task(give(value)),
            lambda value: asyncio.tasks._PyTask(give(value), loop=asyncio.get_running_loop()),
            lambda value: asyncio.shield(asyncio.create_task(give(value))),
            lambda value: asyncio.wait_for(give(value), 5),
            lambda value: asyncio.to_thread(lambda: value),
            lambda value: asyncio.get_running_loop().run_in_executor(None, lambda: value),
            lambda value: Awaitable(give(value)),
            lambda value: Lookalike(give(value)),
            lambda value: generator_based(give(value)),
            lambda value: impatient(give(value), log_after=5),
            lambda value: supervised(give)(value),
        ],
        ids=[
            "coroutine",
            "task",
            "pure Python task",
            "shield",
            "wait_for",
            "to_thread",
            "run_in_executor",
            "awaitable",
            "lookalike of a coroutine",
            "generator-based coroutine",
            "impatient",
            "supervised",
        ],
    )
    async def test_every_kind_of_awaitable_is_taken(self, make):
        """Whatever ``await`` takes, alone, among others and under a limit."""
        assert await try_gather(make(1)) == [1]
        assert await try_gather(give(0), make(1), make(2), give(3)) == [0, 1, 2, 3]
        assert await try_gather(make(1), make(2), give(3), limit=1) == [1, 2, 3]

    @pytest.mark.parametrize("kind", [asyncio.Future, asyncio.futures._PyFuture], ids=["C", "Python"])
    async def test_futures_are_taken_done_or_not(self, kind):
        """Those of C and those of pure Python."""
        loop = asyncio.get_running_loop()
        done, pending = kind(loop=loop), kind(loop=loop)
        done.set_result(1)
        loop.call_soon(pending.set_result, 2)

        assert await try_gather(done, pending, give(3)) == [1, 2, 3]

    async def test_a_gather_of_asyncio_is_taken(self):
        """A future with children of its own."""
        assert await try_gather(asyncio.gather(give(1), give(2)), give(3)) == [[1, 2], 3]

    async def test_steps_of_async_generators_are_taken(self):
        """They are awaitables that no function made."""
        assert await try_gather(anext(numbers()), anext(numbers(), None), numbers().__anext__()) == [1, 1, 1]

    async def test_which_are_the_same_is_not_asked_of_them(self):
        """An awaitable may compare as it likes, or have no hash."""

        class Equal:
            __hash__ = None

            def __init__(self, value):
                self.value = value

            def __eq__(self, other):
                return True

            def __await__(self):
                return give(self.value).__await__()

        once = Equal(1)
        assert await try_gather(once, Equal(2), once) == [1, 2, 1]
        assert await try_gather(Equal(3), Equal(4)) == [3, 4]

    async def test_the_same_awaitable_twice_runs_once_and_fills_both_slots(self):
        """A coroutine, an awaitable, a task and a future."""
        calls = []

        async def call(value):
            calls.append(value)
            await turns()
            return value

        coroutine, awaitable, task = call(1), Awaitable(call(2)), asyncio.create_task(call(3))
        [future] = futures(1)
        asyncio.get_running_loop().call_soon(future.set_result, 4)

        results = await try_gather(coroutine, awaitable, coroutine, task, future, task, awaitable, future)

        assert results == [1, 2, 1, 3, 4, 3, 2, 4]
        assert sorted(calls) == [1, 2, 3]

    async def test_each_child_runs_in_its_own_copy_of_the_context(self):
        """It sees the caller's variables, and nobody sees what it sets."""

        async def visit(name):
            seen = request_id.get()
            request_id.set(name)
            await turns()
            return seen, request_id.get()

        request_id.set("caller")

        assert await try_gather(visit("a"), visit("b")) == [("caller", "a"), ("caller", "b")]
        assert request_id.get() == "caller"


class TestFirstError:
    async def test_the_first_error_is_raised_as_itself(self):
        """The very object, not in a group and with nothing chained to it."""
        error = Boom()

        with pytest.raises(Boom) as caught:
            await try_gather(forever(), fail(error), forever())

        assert caught.value is error
        assert error.__cause__ is error.__context__ is None

    async def test_its_traceback_leads_to_the_line_that_failed(self):
        """From the caller through try_gather into the child, each once."""
        try:
            await try_gather(give(1), fail(Boom()))
        except Boom as exc:
            names = [frame.name for frame in traceback.extract_tb(exc.__traceback__)]

        assert names[0] == "test_its_traceback_leads_to_the_line_that_failed"
        assert names[-1] == "fail"
        assert names.count("fail") == 1

    async def test_the_others_have_stopped_when_it_is_raised(self):
        """They are cancelled, and their cleanup is waited for, however long it takes."""
        log = []

        async def cleanup_takes_long():
            try:
                await forever()
            finally:
                await turns(20)
                log.append("clean")

        with pytest.raises(Boom):
            await try_gather(cleanup_takes_long(), after(asyncio.sleep(0), Boom()), cleanup_takes_long())

        assert log == ["clean", "clean"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_the_first_in_time_wins_not_the_first_in_order(self):
        """As with a plain await, what happens first is what one hears of."""
        early, late = futures(2)
        host = await start(try_gather(after(late, Boom()), after(early, Bang())))

        early.set_result(None)

        with pytest.raises(Bang):
            await host

    @pytest.mark.parametrize("make", [Boom, lambda: ExceptionGroup("two", [Bang()]), GeneratorExit])
    async def test_an_error_of_any_kind_stops_the_others(self, make):
        """A group that a child raises stays what it is, and so does an odd BaseException."""
        log, error = [], make()

        with pytest.raises(type(error)) as caught:
            await try_gather(noting(log, "sibling", forever()), after(asyncio.sleep(0), error))

        assert caught.value is error
        assert log == [("sibling", "CancelledError"), ("sibling", "ended")]

    async def test_a_failed_future_stops_the_others(self):
        """What was given is a child like others."""
        log = []
        [future] = futures(1)
        host = await start(try_gather(noting(log, "sibling", forever()), future))

        future.set_exception(error := Boom())

        with pytest.raises(Boom) as caught:
            await host
        assert caught.value is error
        assert log == [("sibling", "CancelledError"), ("sibling", "ended")]

    async def test_later_errors_are_logged_at_once_with_their_traceback(self, caplog):
        """No exception is lost: whatever cannot be raised is in the log before the call returns."""
        first, late = Boom(), Bang()
        [released] = futures(1)
        failing = after(asyncio.sleep(0), first)
        host = await start(try_gather(failing, outlast(released), fail_when_cancelled(late, "saver")))

        [record] = caplog.records
        assert not host.done()
        assert messages(caplog) == [
            ("ERROR", "task 'saver' failed with Bang, not raised by try_gather: it ends otherwise"),
        ]
        assert record.exc_info[1] is late
        assert traceback.extract_tb(record.exc_info[2])[-1].name == "fail_when_cancelled"
        released.set_result(None)
        with pytest.raises(Boom) as caught:
            await host
        assert caught.value is first
        assert len(caplog.records) == 1

    async def test_of_two_that_fail_together_one_is_raised_and_one_logged(self, caplog):
        """Both fail in one turn of the loop, before anybody can be cancelled."""
        [together] = futures(1)
        host = await start(try_gather(after(together, Boom()), after(together, Bang()), forever()))

        together.set_result(None)

        with pytest.raises(Boom):
            await host
        [(level, message)] = messages(caplog)
        assert level == "ERROR"
        assert message.endswith("failed with Bang, not raised by try_gather: it ends otherwise")

    async def test_an_error_that_reaches_several_children_is_not_logged_as_well(self, caplog):
        """Two that wait for the same task fail with the same exception, and that one is raised."""
        [released] = futures(1)
        shared = asyncio.create_task(after(released, Boom()))
        host = await start(try_gather(after(shared), after(shared)))

        released.set_result(None)

        with pytest.raises(Boom):
            await host
        assert caplog.records == []

    async def test_a_child_that_swallows_its_cancellation_changes_nothing(self, caplog):
        """Its value has no slot any more."""

        async def stubborn():
            try:
                await forever()
            except asyncio.CancelledError:
                return "went on"

        with pytest.raises(Boom):
            await try_gather(stubborn(), fail(Boom()))
        assert caplog.records == []

    @pytest.mark.asyncio(loop_factories=["eager"])  # 3.11 has none
    async def test_an_eager_child_that_fails_at_once_keeps_the_rest_from_starting(self):
        """It is done before it could be registered, and must be looked at all the same."""
        log = []
        third = give(3)

        with pytest.raises(Boom):
            await try_gather(noting(log, "first", forever()), fail(Boom()), third)

        assert log == [("first", "CancelledError"), ("first", "ended")]
        assert closed(third)

    @pytest.mark.asyncio(loop_factories=["eager"])  # 3.11 has none
    async def test_an_eager_child_that_was_over_at_once_has_a_name_in_the_log(self, caplog):
        """To ask a finished task for its coroutine crashes CPython 3.12.1 (gh-122332), so nobody does."""
        done = asyncio.create_task(fail(Bang()))
        assert done.done()

        with pytest.raises(Boom):
            await try_gather(fail(Boom()), done)

        [(level, message)] = messages(caplog)
        assert level == "ERROR"
        told = r"task '(Task-\d+|Task)' failed with Bang, not raised by try_gather: it ends otherwise"
        assert re.fullmatch(told, message)

    @pytest.mark.asyncio(loop_factories=["eager"])  # 3.11 has none
    async def test_eager_children_that_return_at_once_need_no_turn_of_the_loop(self):
        """The gather as a whole is then done in the first step of its own task."""
        task = asyncio.create_task(try_gather(give(1), give(2)))

        assert task.done()
        assert task.result() == [1, 2]

    async def test_a_child_may_cancel_its_caller_in_its_first_step(self):
        """Under an eager factory the caller is still running then, and hears of it at its next await."""
        caller = None

        async def cancels():
            caller.cancel()
            await forever()

        async def call():
            nonlocal caller
            caller = asyncio.current_task()
            await try_gather(cancels(), forever())

        task = asyncio.create_task(call())
        await asyncio.wait([task])

        assert task.cancelled()
        assert task.cancelling() == 1


class TestCancellation:
    async def test_a_cancelled_caller_stops_its_children_first(self):
        """They have ended when the cancellation is raised, and it is the one that was asked for."""
        log = []
        host = await start(try_gather(noting(log, "a", forever()), noting(log, "b", forever())))

        host.cancel("enough")

        with pytest.raises(asyncio.CancelledError) as caught:
            await host
        assert caught.value.args == ("enough",)
        assert sorted(log) == [("a", "CancelledError"), ("a", "ended"), ("b", "CancelledError"), ("b", "ended")]
        assert host.cancelling() == 1

    async def test_cancelled_again_it_goes_on_waiting_and_cancels_nobody_twice(self):
        """The first cancellation is the one that is raised, once everything has stopped."""
        [released] = futures(1)
        children = []

        async def child():
            children.append(asyncio.current_task())
            await outlast(released)

        host = await start(try_gather(child(), child()))
        for reason in ("first", "second", "third"):
            host.cancel(reason)
            await turns()
        assert not host.done()
        assert [task.cancelling() for task in children] == [1, 1]
        released.set_result(None)

        with pytest.raises(asyncio.CancelledError) as caught:
            await host
        assert caught.value.args == ("first",)
        assert host.cancelling() == 3

    async def test_cancelled_before_its_first_step_it_starts_nothing(self):
        """And leaves nothing unawaited."""
        started = []
        first = noting(started, "a", second := give(1))
        # No eager task: that one has no moment before its first step.
        host = asyncio.Task(try_gather(first, second))
        host.cancel()
        await asyncio.wait([host])

        assert host.cancelled()
        assert started == []
        del host
        assert closed(first)
        assert closed(second)

    async def test_a_caller_that_had_been_cancelled_before_stops_its_children_at_once(self):
        """It is told at its next await, which comes when it has made the tasks; nothing is left unawaited."""
        first, second, third = forever(), forever(), forever()

        async def call():
            asyncio.current_task().cancel()
            await try_gather(first, Lookalike(second), generator_based(third))

        host = asyncio.create_task(call())
        await asyncio.wait([host])

        assert host.cancelled()
        assert all(map(closed, [first, second, third]))

    async def test_cancelled_while_it_cleans_up_it_logs_the_first_error(self, caplog):
        """The cancellation wins, for the caller must stop, but no exception is lost."""
        [released] = futures(1)
        error = Boom()

        async def fails():
            asyncio.current_task().set_name("fetcher")
            await turns()
            asyncio.current_task().set_name("fetcher")
            raise error

        host = await start(try_gather(outlast(released), fails()))
        await turns()
        host.cancel()
        await turns()
        assert caplog.records == []
        released.set_result(None)

        with pytest.raises(asyncio.CancelledError) as caught:
            await host
        assert caught.value.__context__ is None
        assert messages(caplog) == [
            ("ERROR", "task 'fetcher' failed with Boom, not raised by try_gather: it ends otherwise"),
        ]
        assert caplog.records[0].exc_info[1] is error

    async def test_errors_of_a_cleanup_after_a_cancellation_are_logged(self, caplog):
        """The caller gets its cancellation, the log gets each of the errors."""
        host = await start(try_gather(fail_when_cancelled(Boom(), "a"), fail_when_cancelled(Bang(), "b")))

        host.cancel()

        with pytest.raises(asyncio.CancelledError):
            await host
        assert sorted(messages(caplog)) == [
            ("ERROR", "task 'a' failed with Boom, not raised by try_gather: it ends otherwise"),
            ("ERROR", "task 'b' failed with Bang, not raised by try_gather: it ends otherwise"),
        ]

    async def test_cancelled_when_all_is_done_it_is_cancelled(self):
        """As with any await: the results were there, but the caller was told to stop before it had them."""
        [finished] = futures(1)
        host = await start(try_gather(after(finished, 1)))
        finished.set_result(None)

        host.cancel()

        with pytest.raises(asyncio.CancelledError):
            await host

    async def test_cancelled_while_its_error_is_on_the_way_it_logs_the_error(self, caplog):
        """The last child has failed and the caller is about to be woken; its cancellation comes between."""
        [finished] = futures(1)

        async def child():
            await finished
            asyncio.current_task().set_name("fetcher")
            asyncio.get_running_loop().call_soon(host.cancel)
            raise Boom

        host = await start(try_gather(child()))
        finished.set_result(None)

        with pytest.raises(asyncio.CancelledError):
            await host
        assert messages(caplog) == [
            ("ERROR", "task 'fetcher' failed with Boom, not raised by try_gather: it ends otherwise"),
        ]

    @pytest.mark.virtual_time
    async def test_a_timeout_around_it_works(self, virtual_clock):
        """`asyncio.timeout` cancels, sees its own cancellation come back, and turns it into a TimeoutError."""
        log = []

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await try_gather(noting(log, "a", forever()), noting(log, "b", asyncio.sleep(2)))

        assert virtual_clock.elapsed == 3
        assert log == [("b", "ended"), ("a", "CancelledError"), ("a", "ended")]

    @pytest.mark.virtual_time
    async def test_a_failure_inside_a_timeout_is_no_timeout(self, virtual_clock):
        """No cancellation of the caller is made up, so nothing is taken for the timeout's (gh-116720)."""
        with pytest.raises(Boom):
            async with asyncio.timeout(3) as timeout:
                await try_gather(forever(), fail(Boom()))

        assert not timeout.expired()
        assert asyncio.current_task().cancelling() == 0


class TestUnexpectedCancellation:
    """A child that somebody else cancels: a bare CancelledError would pass for the caller's own cancellation."""

    async def test_a_child_cancelled_from_elsewhere_stops_the_rest(self):
        """It is a RuntimeError that names the child, with the cancellation as its cause."""
        log = []
        task = asyncio.create_task(forever())
        host = await start(try_gather(noting(log, "sibling", forever()), task))
        task.set_name("fetcher")

        task.cancel("by somebody")

        with pytest.raises(UnexpectedCancellation) as caught:
            await host
        assert isinstance(caught.value, RuntimeError)
        assert str(caught.value) == "fetcher was cancelled while try_gather waited for it"
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert caught.value.__cause__.args == ("by somebody",)
        assert log == [("sibling", "CancelledError"), ("sibling", "ended")]

    async def test_a_child_that_cancels_itself_is_told_as_well(self):
        """Be it that it raises CancelledError or awaits a cancelled task."""

        async def cancels_itself():
            await asyncio.sleep(0)
            asyncio.current_task().set_name("child")
            raise asyncio.CancelledError

        with refused(UnexpectedCancellation, "child was cancelled while try_gather waited for it"):
            await try_gather(forever(), cancels_itself())

    async def test_a_cancelled_future_is_told_by_its_type(self):
        """It has no name."""
        [future] = futures(1)
        asyncio.get_running_loop().call_soon(future.cancel)

        with refused(UnexpectedCancellation, "Future was cancelled while try_gather waited for it"):
            await try_gather(future, forever())

    async def test_a_task_that_was_cancelled_before_is_told(self):
        """It is done already when it is given."""
        task = await start(forever(), "fetcher")
        task.cancel()
        await turns()

        with refused(UnexpectedCancellation, "fetcher was cancelled while try_gather waited for it"):
            await try_gather(task, forever())

    async def test_a_cancellation_held_as_an_exception_is_told_too(self):
        """A thread that raises CancelledError makes a future that failed with it and does not count as cancelled."""
        [future] = futures(1)
        future.set_exception(cancellation := asyncio.CancelledError())

        with pytest.raises(UnexpectedCancellation) as caught:
            await try_gather(forever(), future)

        assert caught.value.__cause__ is cancellation

    async def test_after_a_failure_a_cancellation_from_elsewhere_is_nothing_new(self, caplog):
        """The children are being cancelled anyway."""
        [released] = futures(1)
        task = asyncio.create_task(outlast(released))
        host = await start(try_gather(task, fail(Boom())))

        released.cancel()
        task.cancel()

        with pytest.raises(Boom):
            await host
        assert caplog.records == []

    async def test_overtaken_by_a_cancellation_of_the_caller_it_is_logged(self, caplog):
        """It is an error like others."""
        [released] = futures(1)
        task = asyncio.create_task(forever())
        host = await start(try_gather(task, outlast(released)))
        task.set_name("fetcher")
        task.cancel()
        await turns()
        host.cancel()
        released.set_result(None)

        with pytest.raises(asyncio.CancelledError):
            await host
        assert messages(caplog) == [
            ("ERROR", "task 'fetcher' failed with UnexpectedCancellation, not raised by try_gather: it ends otherwise"),
        ]

    async def test_a_caller_cancelled_together_with_its_child_is_simply_cancelled(self, caplog):
        """In either order: the cancellation of the caller explains that of the child."""
        for order in (slice(None), slice(None, None, -1)):
            task = asyncio.create_task(forever())
            host = await start(try_gather(task, forever()))

            for victim in (task, host)[order]:
                victim.cancel()

            with pytest.raises(asyncio.CancelledError):
                await host
        assert caplog.records == []
