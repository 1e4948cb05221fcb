"""`result_of`: a future of an executor or a cluster, awaited by one who owns what runs there."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest
from jobs import Remote, done, running
from tools import Boom, closed, forever, give, messages, no_garbage, no_garbage_of_reports, refused, start, turns

from async_plus import UnexpectedCancellation, cancel_and_wait, result_of, stacks, task_scope, try_gather
from async_plus._coroutines import is_coroutine_function


class TestResults:
    async def test_the_result_of_a_thread(self, pool):
        """It comes back to the loop."""
        assert await result_of(pool.submit(pow, 2, 10)) == 1024

    async def test_the_result_of_a_process(self):
        """Of an executor of any kind."""
        with ProcessPoolExecutor(1, max_tasks_per_child=1) as pool:
            assert await result_of(pool.submit(pow, 2, 10)) == 1024

    async def test_a_future_that_is_done_costs_no_turn_of_the_loop(self):
        """There is nothing to wait for."""
        coroutine = result_of(done("here"))

        with pytest.raises(StopIteration) as stopped:
            coroutine.send(None)

        assert stopped.value.value == "here"

    @pytest.mark.parametrize("result", [None, 0, [], NotImplemented])
    async def test_any_result_will_do(self, result):
        """Also one that is nothing much."""
        future = running()
        task = await start(result_of(future))
        future.set_result(result)

        assert await task is result

    async def test_a_result_that_could_be_awaited_is_not(self):
        """What a thread returned is handed over as it is."""
        coroutine = give(1)

        assert await result_of(done(coroutine)) is coroutine
        coroutine.close()

    async def test_several_may_wait_for_one_future(self):
        """Each gets the result."""
        future = running()
        tasks = [await start(result_of(future)) for _ in range(3)]
        future.set_result("for all")

        assert await try_gather(*tasks) == ["for all"] * 3

    async def test_the_future_of_a_client_in_this_loop_is_awaited(self):
        """Its methods return awaitables, and what counts is what comes of them."""
        remote = Remote()
        task = await start(result_of(remote))
        remote.inner.set_result(42)

        assert await task == 42


def _exit():
    import os

    os._exit(1)


class TestErrors:
    @pytest.mark.parametrize("early", [True, False])
    async def test_an_error_is_raised_as_it_is(self, early):
        """The very exception of the job."""
        error, future = Boom("over there"), running()
        task = None if early else await start(result_of(future))
        future.set_exception(error)

        with pytest.raises(Boom) as caught:
            await (task or result_of(future))

        assert caught.value is error

    async def test_an_error_of_a_client_in_this_loop(self):
        """It comes of awaiting its result."""
        remote = Remote()
        remote.inner.set_exception(Boom())

        with pytest.raises(Boom):
            await result_of(remote)

    async def test_a_process_that_is_gone(self):
        """A broken pool says so, to everyone who waits."""
        with ProcessPoolExecutor(1) as pool:
            future = pool.submit(_exit)
            with pytest.raises(BrokenProcessPool):
                await result_of(future)

    async def test_a_stop_iteration_cannot_be_raised_here(self):
        """Python turns it into a RuntimeError. Futures of asyncio long let the caller wait for ever (gh-112182)."""
        with refused(RuntimeError, "coroutine raised StopIteration"):
            await result_of(done(error=StopIteration()))


class TestWhereItIsParked:
    async def test_it_names_whose_future_it_is(self):
        """By its package and type."""
        future, remote = Future(), Remote()
        tasks = [await start(result_of(future)), await start(result_of(remote))]

        assert [str(stacks.parked(task)) for task in tasks] == ["on concurrent Future", "on jobs Remote"]

        await cancel_and_wait(*tasks)

    @pytest.mark.virtual_time
    async def test_a_scope_names_what_it_waits_for(self, caplog):
        """A job that goes on after its cancellation is told as any stuck task is."""
        future = running()

        async def render():
            await result_of(future)

        async def release():
            await asyncio.sleep(6)
            future.set_result(None)

        releasing = asyncio.create_task(release())
        async with task_scope(name="pages") as scope:
            scope.launch(render(), name="cover")
            await asyncio.sleep(0)
        await releasing

        [(level, text)] = messages(caplog)
        assert level == "WARNING"
        assert text.startswith("task_scope 'pages' still waits for 1 cancelled task after 5.0 s: 'cover' parked at ")
        assert text.endswith(" in render on concurrent Future, cancelled and still running")


class TestArguments:
    @pytest.mark.parametrize(
        ("given", "told"),
        [
            (5, "int 5"),
            ("job", "str"),
            (None, "NoneType"),
            (Future, "the class Future"),
            (pow, "the function pow"),
            ([Future()], "list (one each: try_gather(*map(result_of, futures)))"),
        ],
    )
    async def test_what_is_no_future_is_refused(self, given, told):
        """At the call, naming the parameter, what it got, and a likely fix."""
        with refused(TypeError, f"future must be one as concurrent.futures has it, got {told}"):
            result_of(given)

    async def test_a_coroutine_is_refused_and_closed(self):
        """It needs no help to be awaited."""
        coroutine = forever()

        with refused(TypeError, "future must be one as concurrent.futures has it, got coroutine (await it as it is)"):
            result_of(coroutine)

        assert closed(coroutine)

    async def test_a_future_of_asyncio_is_refused(self):
        """Nor does that, and it is left as it is."""
        future = asyncio.get_running_loop().create_future()

        with refused(TypeError, "future must not be one of asyncio, got Future (await it as it is)"):
            result_of(future)

        assert not future.cancelled()

    async def test_it_passes_for_a_coroutine_function(self):
        """For those who look before they call."""
        assert is_coroutine_function(result_of)
        coroutine = result_of(done())
        assert coroutine.__qualname__ == "result_of"
        await coroutine


class TestMemory:
    async def test_results_and_errors_leave_no_cycles(self):
        """Whoever waited is gone when the future is done, and the future when nobody has it."""

        async def fail():
            future = running()
            task = await start(result_of(future))
            future.set_exception(Boom())
            del future
            try:
                with contextlib.suppress(Boom):
                    await task
            finally:
                # The traceback holds this frame.
                del task

        with no_garbage():
            await fail()
            future = running()
            task = await start(result_of(future))
            future.set_result(1)
            await task
            del future, task

    async def test_cancellations_leave_no_cycles(self):
        """Of the caller and of others, with an error that comes too late."""

        async def cancel(future, outcome):
            task = await start(result_of(future))
            task.cancel()
            await turns()
            if outcome is not None:
                future.set_exception(outcome)
            await asyncio.wait([task])

        async def be_cancelled():
            future = Future()
            future.cancel()
            with contextlib.suppress(UnexpectedCancellation):
                await result_of(future)

        with no_garbage_of_reports():
            await cancel(Future(), None)
            await cancel(running(), Boom())
            await cancel(Remote(), None)
            await be_cancelled()
