"""What `try_gather` takes: tasks and futures that run already, what it refuses, and task factories."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib

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

from async_plus import UnexpectedCancellation, cancel_and_wait, ignore, launch_watched, task_scope, try_gather


class TestGiven:
    """A running task or a future given in is owned from then on."""

    async def test_a_given_task_is_cancelled_with_the_rest(self):
        """Once, and waited for."""
        log = []
        task = asyncio.create_task(noting(log, "given", forever()))

        with pytest.raises(Boom):
            await try_gather(task, fail(Boom()))

        assert task.cancelled()
        assert task.cancelling() == 1
        assert log in ([("given", "CancelledError"), ("given", "ended")], [])

    async def test_a_given_future_is_cancelled_with_the_rest(self):
        """Of C and of pure Python."""
        [future] = futures(1)
        pure = asyncio.futures._PyFuture(loop=asyncio.get_running_loop())

        with pytest.raises(Boom):
            await try_gather(future, pure, fail(Boom()))

        assert future.cancelled()
        assert pure.cancelled()

    async def test_shield_keeps_a_task_out(self):
        """It goes on, and can be awaited later."""
        [released] = futures(1)
        task = asyncio.create_task(after(released, "kept"))

        with pytest.raises(Boom):
            await try_gather(asyncio.shield(task), fail(Boom()))

        released.set_result(None)
        assert await task == "kept"

    async def test_it_is_owned_before_anything_starts(self):
        """An eager child that fails at once finds it registered already."""
        task = await start(forever())

        with pytest.raises(Boom):
            await try_gather(fail(Boom()), task)

        assert task.cancelled()

    async def test_a_pure_python_task_is_named_like_others(self, caplog):
        """By its own name."""
        task = asyncio.tasks._PyTask(fail_when_cancelled(Bang(), "pure"), loop=asyncio.get_running_loop())
        await turns()

        with pytest.raises(Boom):
            await try_gather(task, fail(Boom()))

        assert messages(caplog) == [
            ("ERROR", "task 'pure' failed with Bang, not raised by try_gather: it ends otherwise"),
        ]

    async def test_one_that_two_gathers_share_stops_with_the_first_failure(self):
        """The other gather hears that somebody else cancelled it."""
        shared = await start(forever(), "shared")
        other = await start(try_gather(shared, forever()))

        with pytest.raises(Boom):
            await try_gather(shared, fail(Boom()))

        with refused(UnexpectedCancellation, "shared was cancelled while try_gather waited for it"):
            await other

    async def test_what_a_shared_task_raises_is_logged_once(self, caplog):
        """Two gathers that cannot raise it have one log line between them."""
        shared = await start(fail_when_cancelled(Bang(), "shared"))
        other = await start(try_gather(shared, forever()))
        other.cancel()

        with pytest.raises(Boom):
            await try_gather(shared, fail(Boom()))

        await asyncio.wait([other])
        assert messages(caplog) == [
            ("ERROR", "task 'shared' failed with Bang, not raised by try_gather: it ends otherwise"),
        ]

    @pytest.mark.parametrize("owner", ["launch_watched", "task_scope"])
    async def test_the_failure_of_a_watched_task_is_reported_once(self, owner, caplog):
        """By whoever watches it, and not again by a gather that cannot raise it."""
        async with task_scope() as scope:
            launch = launch_watched if owner == "launch_watched" else scope.launch
            task = launch(fail_when_cancelled(Bang()), name="watched")
            await turns()

            with pytest.raises(Boom):
                await try_gather(task, fail(Boom()))

        [(level, message)] = messages(caplog)
        assert level == "ERROR"
        assert message.startswith("task 'watched' failed with Bang, launched at ")

    async def test_the_failure_of_a_watched_task_is_raised_as_well(self, caplog):
        """It is the first error of the gather, whoever else reports it."""
        [released] = futures(1)
        task = launch_watched(after(released, error := Bang()), name="watched")
        host = await start(try_gather(task, forever()))
        released.set_result(None)

        with pytest.raises(Bang) as caught:
            await host

        assert caught.value is error
        assert len(caplog.records) == 1

    async def test_a_cancellation_that_overtakes_a_reported_failure_logs_no_second_line(self, caplog):
        """The watcher has told of it already."""
        [released, fails] = futures(2)
        task = launch_watched(after(fails, Bang()), name="watched")
        host = await start(try_gather(task, outlast(released)))
        fails.set_result(None)
        await turns()
        host.cancel()
        released.set_result(None)

        with pytest.raises(asyncio.CancelledError):
            await host

        assert len(caplog.records) == 1
        assert caplog.records[0].getMessage().startswith("task 'watched' failed with Bang, launched at ")

    async def test_a_task_that_had_been_reported_before_is_not_reported_again(self, caplog):
        """It failed long ago, and its watcher said so; a second failed one is raised."""
        tasks = [launch_watched(fail(Bang()), name="watched") for _ in range(2)]
        await turns()
        assert len(caplog.records) == 2

        with pytest.raises(Bang):
            await try_gather(*tasks)

        assert len(caplog.records) == 2

    async def test_a_done_task_that_nobody_looked_at_is_reported(self, caplog):
        """Of two that failed in silence one is raised, the other logged."""
        first, second = [asyncio.create_task(fail(Bang())) for _ in range(2)]
        await turns()
        second.set_name("second")

        with pytest.raises(Bang):
            await try_gather(first, second)

        assert messages(caplog) == [
            ("ERROR", "task 'second' failed with Bang, not raised by try_gather: it ends otherwise"),
        ]

    async def test_an_ignored_task_is_reported_by_the_gather(self, caplog):
        """``on_exception=ignore`` is a promise to await it, and the gather does."""
        task = launch_watched(fail_when_cancelled(Bang(), "ignored"), on_exception=ignore)
        await turns()

        with pytest.raises(Boom):
            await try_gather(task, fail(Boom()))

        assert messages(caplog) == [
            ("ERROR", "task 'ignored' failed with Bang, not raised by try_gather: it ends otherwise"),
        ]


class TestRefusals:
    """Bad input: a clear error that names the argument; nothing was launched, nothing is left unawaited (gh-115957)."""

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (5, "int 5"),
            ("text", "str"),
            (b"bytes", "bytes"),
            (None, "NoneType"),
            (object(), "object"),
            (give, "the function give (call it)"),
            (print, "the function print"),
            (Awaitable, "the class Awaitable"),
            ({}, "dict"),
            ([], "list (unpack it with *)"),
            ((), "tuple (unpack it with *)"),
            (set(), "set (unpack it with *)"),
            ({}.values(), "dict_values (unpack it with *)"),
            (map(give, "ab"), "map (unpack it with *)"),
            ((give(value) for value in "ab"), "generator (unpack it with *)"),
        ],
        ids=lambda value: type(value).__name__,
    )
    async def test_what_is_not_awaitable_is_refused(self, value, shown):
        """The message says which argument, what it is and, where that is clear, what to do."""
        before, behind = give(1), Lookalike(behind_it := give(2))

        with refused(TypeError, f"argument 2 of try_gather() must be awaitable, got {shown}"):
            await try_gather(before, value, behind)
        assert closed(before)
        assert closed(behind_it)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    @pytest.mark.parametrize(
        "collect",
        [list, tuple, set, frozenset, lambda coros: dict(enumerate(coros)).values()],
        ids=["list", "tuple", "set", "frozenset", "dict values"],
    )
    async def test_coroutines_passed_without_a_star_are_closed(self, collect):
        """One error, and no warning for each of them."""
        coroutines = [give(1), give(2)]
        name = type(collect(coroutines)).__name__

        with refused(TypeError, f"argument 1 of try_gather() must be awaitable, got {name} (unpack it with *)"):
            await try_gather(collect(coroutines))
        assert all(map(closed, coroutines))

    async def test_a_concurrent_future_is_refused(self):
        """That of a thread pool cannot be awaited; asyncio has its own."""

        with refused(TypeError, "argument 1 of try_gather() must be awaitable, got Future"):
            await try_gather(concurrent.futures.Future())

    async def test_an_async_generator_is_refused(self):
        """It is to be iterated over."""
        with refused(TypeError, "argument 1 of try_gather() must be awaitable, got async_generator"):
            await try_gather(numbers())

    async def test_a_coroutine_awaited_before_is_refused(self):
        """Finished, closed, or under way in another task."""
        finished = give(1)
        await finished
        shut = give(1)
        shut.close()
        busy = forever()
        task = await start(busy)

        for used, name in ((finished, "give"), (shut, "give"), (busy, "forever")):
            fresh = give(2)
            with refused(ValueError, f"argument 2 of try_gather() was awaited or closed before: coroutine {name}"):
                await try_gather(fresh, used)
            assert closed(fresh)
            with refused(ValueError, f"argument 1 of try_gather() was awaited or closed before: coroutine {name}"):
                await try_gather(used)

        assert not task.done()
        await cancel_and_wait(task)

    async def test_a_generator_based_coroutine_awaited_before_is_refused(self):
        """Awaited a second time, it would return None as if nothing were wrong."""
        used = generator_based(give(1))
        assert await used == 1

        with refused(ValueError, "argument 1 of try_gather() was awaited or closed before: generator generator_based"):
            await try_gather(used)

    async def test_a_future_of_another_loop_is_refused(self):
        """It could never wake us."""
        other = asyncio.new_event_loop()
        try:
            fresh = give(1)
            with refused(ValueError, "argument 2 of try_gather() belongs to another event loop"):
                await try_gather(fresh, other.create_future())
        finally:
            other.close()

        assert closed(fresh)

    async def test_the_current_task_is_refused(self):
        """It would wait for itself."""
        fresh = give(1)

        with refused(RuntimeError, "argument 2 of try_gather() is the current task, which cannot wait for itself"):
            await try_gather(fresh, asyncio.current_task())
        assert closed(fresh)

    def test_without_a_running_loop_it_is_refused(self):
        """As everything of asyncio is; what it was given is closed."""
        coroutine = give(1)

        with refused(RuntimeError, "no running event loop"):
            try_gather(coroutine).send(None)

        assert closed(coroutine)

    async def test_a_given_task_is_not_touched_by_a_refusal(self):
        """It was not ours yet."""
        task = await start(forever())

        with pytest.raises(TypeError):
            await try_gather(task, 5)

        assert not task.done()
        assert task.cancelling() == 0
        await cancel_and_wait(task)

    async def test_unknown_options_are_refused_at_the_call(self):
        """There is no return_exceptions: that is what the log is for."""
        coroutine = give(1)

        with pytest.raises(TypeError, match="unexpected keyword argument 'return_exceptions'"):
            try_gather(coroutine, return_exceptions=True)

        coroutine.close()


@contextlib.contextmanager
def task_factory(factory):
    """Make tasks by *factory* inside the block."""
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(factory)
    yield
    loop.set_task_factory(before)


def failing_factory(works):
    """A factory that works so many times and then fails."""
    left = [works]

    def factory(loop, coro, **kwargs):
        if not left[0]:
            raise Boom
        left[0] -= 1
        return asyncio.Task(coro, loop=loop, **kwargs)

    return factory


class TestTaskFactories:
    async def test_a_factory_may_return_a_subclass(self):
        """The children are what the loop makes of them."""

        class MyTask(asyncio.Task):
            pass

        kinds = []

        async def child():
            kinds.append(type(asyncio.current_task()))

        with task_factory(lambda loop, coro, **kwargs: MyTask(coro, loop=loop, **kwargs)):
            await try_gather(child(), Awaitable(child()))

        assert kinds == [MyTask, MyTask]

    async def test_a_factory_may_return_what_is_done_already(self):
        """Eager tasks are, and so may be those of a factory of one's own."""

        class Done(asyncio.Future):
            def set_name(self, name):
                """Some Pythons call it."""

        def run_at_once(loop, coro, **kwargs):
            done = Done(loop=loop)
            try:
                coro.send(None)
            except StopIteration as stop:
                done.set_result(stop.value)
            except Boom as error:
                done.set_exception(error)
            return done

        never = give(3)
        with task_factory(run_at_once):
            assert await try_gather(give(1), give(2)) == [1, 2]
            assert await try_gather(give(1), give(2), limit=1) == [1, 2]
            with pytest.raises(Boom):
                await try_gather(give(1), fail(Boom()), never)

        assert closed(never)

    async def test_a_factory_may_return_pure_python_tasks(self, caplog):
        """Results, failures and cancellations come out as ever."""
        with task_factory(lambda loop, coro, **kwargs: asyncio.tasks._PyTask(coro, loop=loop, **kwargs)):
            assert await try_gather(give(1), give(2)) == [1, 2]
            with pytest.raises(Boom):
                await try_gather(fail_when_cancelled(Bang(), "saver"), after(asyncio.sleep(0), Boom()))

        assert messages(caplog) == [
            ("ERROR", "task 'saver' failed with Bang, not raised by try_gather: it ends otherwise"),
        ]

    @pytest.mark.parametrize("kind", [lambda coro: coro, Lookalike, Awaitable])
    async def test_a_factory_that_fails_stops_what_had_started(self, kind):
        """Its error is raised as itself, and nothing is left running or unawaited."""
        first, second, third = forever(), give(2), give(3)

        with task_factory(failing_factory(1)), pytest.raises(Boom):
            await try_gather(kind(first), kind(second), third)

        assert closed(third)
        # What a custom awaitable holds is its maker's, since it may never be asked for it.
        assert closed(first) or kind is Awaitable
        assert closed(second) or kind is Awaitable
        first.close()
        second.close()

    async def test_a_factory_that_fails_at_once_starts_nothing(self):
        """There is nothing to wait for."""
        first, second = give(1), give(2)

        with task_factory(failing_factory(0)), pytest.raises(Boom):
            await try_gather(first, second)

        assert closed(first)
        assert closed(second)

    async def test_its_error_is_logged_if_the_caller_is_cancelled_meanwhile(self, caplog):
        """There is no task to name, so it is the coroutine that has none."""
        [released] = futures(1)
        host = asyncio.Task(try_gather(outlast(released), give(2)))

        # Made before the host's first step, but at work in it.
        with task_factory(failing_factory(1)):
            await turns(2)
        host.cancel()
        await turns()
        released.set_result(None)

        with pytest.raises(asyncio.CancelledError):
            await host
        assert messages(caplog) == [
            ("ERROR", "task 'give' failed with Boom, not raised by try_gather: it ends otherwise"),
        ]
