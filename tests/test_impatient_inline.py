"""`await impatient(...)`: the await stays what it was, cancellation, context and exceptions included."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import types
import weakref

import pytest
from tools import (
    Awaitable,
    Bang,
    Boom,
    Lookalike,
    closed,
    crash,
    fail,
    forever,
    futures,
    generator_based,
    give,
    no_garbage,
    refused,
    start,
    turns,
)
from waits import fetch, waiting

from async_plus import impatient, try_gather

pytestmark = pytest.mark.usefixtures("everything_is_logged")

virtual = pytest.mark.virtual_time


async def caught(task):
    """How *task* ended: the kind of outcome, its message, and the count of cancellations requested."""
    await asyncio.wait([task])
    if task.cancelled():
        try:
            task.result()
        except asyncio.CancelledError as exc:
            return "cancelled", exc.args, task.cancelling()
    error = task.exception()
    return (type(error).__name__, error.args if error else task.result(), task.cancelling())


def plainly(aw):
    """The await that an impatient one must not differ from."""
    return aw


def impatiently(aw):
    return impatient(aw, log_after=5)


async def cancel_with_a_message(wrap):
    async def work():
        await wrap(forever())

    task = await start(work())
    task.cancel("stop it")
    return await caught(task)


async def cancel_twice(wrap):
    async def stubborn():
        try:
            await forever()
        except asyncio.CancelledError as exc:
            await asyncio.sleep(1)
            return exc.args

    async def work():
        return await wrap(stubborn())

    task = await start(work())
    task.cancel("first")
    await turns()
    task.cancel("second")
    return await caught(task)


async def swallow_a_cancellation(wrap):
    async def stubborn():
        try:
            await forever()
        except asyncio.CancelledError:
            return "swallowed"

    async def work():
        result = await wrap(stubborn())
        return result, asyncio.current_task().cancelling()

    task = await start(work())
    task.cancel()
    return await caught(task)


async def uncancel(wrap):
    async def work():
        try:
            await wrap(forever())
        except asyncio.CancelledError:
            return asyncio.current_task().uncancel()

    task = await start(work())
    task.cancel()
    return await caught(task)


async def timeout_around(wrap):
    async def work():
        try:
            async with asyncio.timeout(8):
                await wrap(forever())
        except TimeoutError as exc:
            return type(exc.__cause__).__name__, asyncio.current_task().cancelling()

    return await caught(await start(work()))


async def timeout_inside(wrap):
    async def limited():
        async with asyncio.timeout(8):
            await forever()

    async def work():
        await wrap(limited())

    return await caught(await start(work()))


async def cancel_before_the_first_step(wrap):
    async def work():
        await wrap(forever())

    task = asyncio.Task(work())
    task.cancel("early")
    return await caught(task)


async def cancel_the_awaited_task(wrap):
    inner = await start(forever())

    async def work():
        await wrap(inner)

    task = await start(work())
    inner.cancel("inner")
    return await caught(task)


async def cancel_who_awaits_a_task(wrap):
    inner = await start(forever())

    async def work():
        await wrap(inner)

    task = await start(work())
    task.cancel("outer")
    return await caught(task), inner.cancelled()


async def cancelled_by_itself(wrap):
    async def work():
        await wrap(fail(asyncio.CancelledError("nobody asked")))

    return await caught(await start(work()))


async def raise_an_error(wrap):
    async def work():
        await wrap(fetch(6, Boom("text")))

    return await caught(await start(work()))


class Odd(BaseException):
    """An exception that is no Exception."""


async def raise_a_base_exception(wrap):
    async def work():
        await wrap(fetch(6, Odd("text")))

    return await caught(await start(work()))


@virtual
class TestCancellation:
    """An impatient await is cancelled exactly as a plain one."""

    @pytest.mark.parametrize(
        "scenario",
        [
            cancel_with_a_message,
            cancel_twice,
            swallow_a_cancellation,
            uncancel,
            timeout_around,
            timeout_inside,
            cancel_before_the_first_step,
            cancel_the_awaited_task,
            cancel_who_awaits_a_task,
            cancelled_by_itself,
            raise_an_error,
            raise_a_base_exception,
        ],
        ids=lambda scenario: scenario.__name__,
    )
    async def test_the_outcome_is_that_of_a_plain_await(self, scenario):
        """Outcome, message, cancelling(), timeouts: all the same."""
        assert await scenario(impatiently) == await scenario(plainly)
        assert waiting() == {}

    async def test_a_cancellation_before_the_first_step_leaves_nothing_unawaited(self, no_leaks):
        """The inner coroutine never ran, and Python does not call it "never awaited" either."""
        inner = fetch(1)
        # No eager task: that one has no moment before its first step.
        task = asyncio.Task(impatient(inner, log_after=5))
        task.cancel()
        await asyncio.wait([task])

        assert task.cancelled()
        del task
        assert closed(inner)
        gc.collect()
        assert no_leaks.never_awaited == []

    async def test_a_forgotten_await_is_one_warning(self, no_leaks):
        """It names what was forgotten, not the coroutine inside it."""
        inner = fetch(1)
        impatient(inner, log_after=5)
        gc.collect()

        # In debug mode there follows where it was created.
        [warning] = no_leaks.never_awaited
        assert warning.splitlines()[0] == "coroutine 'impatient' was never awaited"
        no_leaks.never_awaited.clear()
        assert closed(inner)

    async def test_a_forgotten_await_of_a_running_task_leaves_the_task_alone(self, no_leaks):
        """It belongs to somebody else."""
        task = await start(forever())
        impatient(task, log_after=5)
        gc.collect()
        no_leaks.never_awaited.clear()

        await turns()
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])


class TestInline:
    """The awaitable is awaited inline: same task, same context, its result and exceptions unchanged."""

    async def test_it_runs_in_the_same_task(self):
        """No task is made for it."""

        async def who():
            return asyncio.current_task()

        assert await impatient(who(), log_after=5) is asyncio.current_task()

    async def test_a_context_variable_set_inside_is_seen_afterwards(self):
        """The context is the same one, not a copy."""

        user = contextvars.ContextVar("user")

        async def log_in():
            user.set("ann")

        await impatient(log_in(), log_after=5)

        assert user.get() == "ann"

    async def test_it_returns_a_coroutine(self):
        """So that it can be given to create_task, try_gather, or whatever wants one."""
        coroutine = impatient(give(1), log_after=5)

        assert type(coroutine) is types.CoroutineType
        assert await asyncio.create_task(coroutine) == 1
        assert await try_gather(impatient(give(2), log_after=5), impatient(give(3), log_after=5)) == [2, 3]

    @pytest.mark.parametrize("wrap", [Awaitable, Lookalike, generator_based, asyncio.ensure_future, lambda coro: coro])
    async def test_anything_awaitable_can_be_waited_for(self, wrap):
        """Coroutines, tasks, futures, old-style coroutines, and classes with __await__."""
        value = object()

        assert await impatient(wrap(give(value)), log_after=5) is value

    async def test_an_exception_comes_through_as_it_is(self):
        """The same object, with no cause or context added, and only one frame of ours in its traceback."""
        error = Boom("text")

        async def work():
            await impatient(fail(error), log_after=5)

        with pytest.raises(Boom) as caught:
            await work()

        assert caught.value is error
        assert (error.__cause__, error.__context__, getattr(error, "__notes__", [])) == (None, None, [])
        assert [entry.name for entry in caught.traceback][-3:] == ["work", "impatiently", "fail"]

    async def test_a_runtime_error_of_the_awaited_is_not_taken_for_a_refusal(self):
        """Though Python's refusal to await a coroutine twice is a RuntimeError as well."""
        done = give(1)
        await done

        async def careless():
            await done

        with refused(RuntimeError, "cannot reuse already awaited coroutine"):
            await impatient(careless(), log_after=5)
        with refused(RuntimeError, "own"):
            await impatient(fail(RuntimeError("own")), log_after=5)

    async def test_a_refusal_that_a_future_passes_on_is_its_own(self):
        """The coroutine that was awaited twice is somewhere else, in a process of a pool, say."""
        [reply] = futures(1)
        reply.set_exception(RuntimeError("cannot reuse already awaited coroutine"))

        with refused(RuntimeError, "cannot reuse already awaited coroutine"):
            await impatient(reply, log_after=5)

    @pytest.mark.parametrize("error", [Boom, asyncio.CancelledError])
    async def test_an_exception_makes_no_reference_cycle(self, error):
        """Without a garbage collection it dies with its last reference, and the task with it (gh-124958)."""
        with no_garbage():
            task = asyncio.create_task(impatient(crash(0, error), log_after=5))
            await asyncio.gather(task, return_exceptions=True)
            dead = weakref.ref(task)
            del task
            await asyncio.sleep(0)
            assert dead() is None

    @pytest.mark.asyncio(loop_factories=["default", "debug", "uvloop"])
    async def test_an_exception_of_an_awaited_task_makes_no_reference_cycle(self):
        """The traceback of the exception leads here, and must not lead on to the task that holds it (gh-124958).

        Not with eager tasks, of which one that fails in its first step is in a cycle of asyncio's own (gh-128552).
        """

        async def work():
            await impatient(asyncio.create_task(fail(Boom)), log_after=5)

        with no_garbage():
            with pytest.raises(Boom):
                await work()
            await turns()

    @pytest.mark.parametrize("error", [Boom, asyncio.CancelledError])
    @virtual
    async def test_a_long_wait_makes_no_reference_cycle_either(self, error):
        """What was found out for the complaint is let go."""
        with no_garbage():
            task = asyncio.create_task(impatient(crash(6, error), log_after=5))
            await asyncio.gather(task, return_exceptions=True)
            dead = weakref.ref(task)
            del task
            await asyncio.sleep(0)
            assert dead() is None

    @virtual
    async def test_a_complaint_keeps_no_local_variable_alive(self):
        """Reading a frame's variables would pin them on 3.11 and 3.12: they are not read."""

        class Page:
            pass

        async def work():
            page = Page()
            dead.append(weakref.ref(page))
            await impatient(asyncio.sleep(6), log_after=5)
            del page
            gate.set()
            await forever()

        dead, gate = [], asyncio.Event()
        task = await start(work())
        await gate.wait()

        assert dead[0]() is None
        task.cancel()
        await asyncio.wait([task])

    async def test_a_wait_that_is_over_keeps_nothing_alive(self):
        """Neither its result nor what was waited for stays in the register."""

        class Page:
            pass

        page = await impatient(give(Page()), log_after=5)
        dead = weakref.ref(page)
        del page

        assert dead() is None

    async def test_an_eager_task_may_wait_impatiently_in_its_first_step(self):
        """The task that runs then is the eager one (3.12 and newer)."""

        async def work():
            return await impatient(give(asyncio.current_task()), log_after=5)

        task = asyncio.create_task(work())

        assert await task is task

    async def test_it_needs_a_task(self):
        """A coroutine stepped by hand in a callback has none: that is said, and nothing is left unawaited."""
        [seen] = futures(1)
        inner = give(1)

        def step():
            try:
                impatient(inner, log_after=5).send(None)
            except RuntimeError as exc:
                seen.set_result(str(exc))

        asyncio.get_running_loop().call_soon(step)

        assert await seen == "impatient must be awaited in a task"
        assert closed(inner)


@pytest.mark.parametrize("error", [Boom, Bang])
async def test_outcomes_of_concurrent_waits_are_not_mixed_up(error):
    """Each wait has its own result or exception."""
    results = await asyncio.gather(
        *(impatient(give(number), log_after=5) for number in range(10)),
        impatient(fail(error()), log_after=5),
        return_exceptions=True,
    )

    assert results[:10] == list(range(10))
    assert type(results[10]) is error
