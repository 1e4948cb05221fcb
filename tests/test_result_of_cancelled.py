"""`result_of` and cancellations: by the caller, who is waited for, and by others, who are not mistaken for it."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import CancelledError as ElsewhereCancelled
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from jobs import Remote, done, running
from tools import Boom, fail_when_cancelled, messages, refused, start, turns

from async_plus import UnexpectedCancellation, result_of, run, try_gather


class TestCancelledByOthers:
    @pytest.mark.parametrize("early", [True, False])
    async def test_it_is_not_taken_for_the_callers_own(self, early):
        """A CancelledError would say that the caller was cancelled, and nobody did that."""
        future = Future()
        task = None if early else await start(result_of(future))
        future.cancel()

        with refused(UnexpectedCancellation, "the concurrent Future was cancelled while result_of waited for it"):
            await (task or result_of(future))

    async def test_the_cause_is_kept(self):
        """It may say more, such as why a cluster did it."""
        future = Future()
        future.cancel()

        with pytest.raises(UnexpectedCancellation) as caught:
            await result_of(future)

        assert type(caught.value.__cause__) is ElsewhereCancelled

    async def test_a_job_that_raises_the_error_of_asyncio(self):
        """A loop that ran in the thread was cancelled, say: that is none of this one."""
        with pytest.raises(UnexpectedCancellation) as caught:
            await result_of(done(error=asyncio.CancelledError()))

        assert type(caught.value.__cause__) is asyncio.CancelledError

    async def test_one_caller_cancels_it_for_the_others(self):
        """They wait for the same job, which is gone."""
        future = Future()
        first, second = await start(result_of(future)), await start(result_of(future))
        first.cancel()

        with refused(UnexpectedCancellation, "the concurrent Future was cancelled while result_of waited for it"):
            await second
        assert first.cancelled()


class TestCancelled:
    async def test_a_job_that_has_not_begun_never_does(self, pool, job):
        """It is cancelled there, and the caller here."""
        busy = pool.submit(job)
        waiting = pool.submit(pow, 2, 10)
        task = await start(result_of(waiting))
        task.cancel()
        await asyncio.wait([task])

        assert task.cancelled()
        assert waiting.cancelled()
        job.may_end.set()
        await result_of(busy)

    async def test_a_job_that_runs_is_waited_for(self, pool, job):
        """A thread cannot be stopped: when the caller is cancelled, it has ended."""
        future = pool.submit(job, "charged")
        task = await start(result_of(future))
        job.begun.wait(30)
        task.cancel()
        await turns()
        assert not task.done()

        job.may_end.set()
        await asyncio.wait([task])

        assert task.cancelled()
        assert job.ended
        assert future.result() == "charged", "the result is where it was"

    async def test_asyncio_leaves_it_running(self, pool, job):
        """The difference: with asyncio.wrap_future the caller is gone, while the thread is at it."""
        future = pool.submit(job)
        task = await start(_wrapped(future))
        job.begun.wait(30)
        task.cancel()
        await asyncio.wait([task])

        assert task.cancelled()
        assert not job.ended

    async def test_a_result_that_came_in_the_same_turn_is_still_there(self):
        """It was done before it could be cancelled. A cluster would drop it if it were cancelled then."""
        future, remote = running(), Remote()
        tasks = [await start(result_of(each)) for each in (future, remote)]
        future.set_result("in time")
        remote.inner.set_result("in time")
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

        assert all(task.cancelled() for task in tasks)
        assert future.result() == "in time"
        assert remote.cancels == 0

    async def test_however_often_it_is_cancelled_once_there(self):
        """The first cancellation is raised, when the job has ended."""
        remote = Remote()
        task = await start(result_of(remote))
        remote.refusal = Boom()
        for number in range(3):
            task.cancel(number)
            await turns()
        assert not task.done()
        remote.inner.set_result(None)

        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == (0,)
        assert remote.cancels == 1

    async def test_the_answer_is_waited_for(self):
        """The cluster knows of the cancellation, when the caller is cancelled."""
        remote = Remote()
        task = await start(result_of(remote))
        task.cancel()
        await asyncio.wait([task])

        assert task.cancelled()
        assert remote.cancelled()
        assert remote.cancels == 1

    async def test_an_end_that_comes_before_the_answer(self):
        """The answer is waited for all the same, so that nothing of it is left."""
        remote = Remote()
        remote.answered.clear()
        task = await start(result_of(remote))
        task.cancel()
        await turns()
        remote.inner.set_result("done")
        await turns()
        assert not task.done()
        remote.answered.set()
        await asyncio.wait([task])

        assert task.cancelled()
        assert remote.inner.result() == "done"

    async def test_a_cancellation_while_the_result_is_fetched(self):
        """It is done over there, and so it is not cancelled: its result can be fetched again."""
        remote = Remote()
        remote.inner.set_result("far away")
        remote.fetched.clear()
        task = await start(result_of(remote))
        task.cancel()
        await asyncio.wait([task])

        assert task.cancelled()
        assert remote.cancels == 0
        remote.fetched.set()
        assert await result_of(remote) == "far away"

    async def test_a_result_that_was_lost_again_while_it_was_fetched(self):
        """With its worker, say. It is computed anew, so it is cancelled there, and the fetch ends by that."""
        remote = Remote()
        remote.done = lambda: True
        remote.fetched.clear()
        task = await start(result_of(remote))
        remote.done = remote.inner.done
        remote.inner.add_done_callback(lambda _: remote.fetched.set())
        task.cancel()
        await asyncio.wait([task])

        assert task.cancelled()
        assert remote.cancelled()

    async def test_a_fetch_that_fails_after_the_cancellation(self, caplog, monkeypatch):
        """Its error cannot be raised any more, and is logged."""
        remote = Remote()
        remote.inner.set_result(None)
        monkeypatch.setattr(remote, "result", lambda: fail_when_cancelled(Boom()))
        task = await start(result_of(remote))
        task.cancel()
        await asyncio.wait([task])

        assert task.cancelled()
        assert messages(caplog) == [
            ("ERROR", "task 'jobs Remote' failed with Boom, not raised by result_of: it ends otherwise")
        ]

    async def test_a_fetch_that_somebody_else_cancels(self, monkeypatch):
        """The result was not fetched, and the caller was not cancelled."""
        remote = Remote()
        remote.inner.set_result(None)
        fetching = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(remote, "result", lambda: fetching)
        task = await start(result_of(remote))
        fetching.cancel()

        with refused(UnexpectedCancellation, "the jobs Remote was cancelled while result_of waited for it"):
            await task

    async def test_an_error_that_comes_too_late_is_logged(self, caplog):
        """It cannot be raised any more, and is not lost."""
        future = running()
        task = await start(result_of(future))
        task.cancel()
        await turns()
        error = Boom()
        future.set_exception(error)
        await asyncio.wait([task])

        assert task.cancelled()
        assert messages(caplog) == [
            ("ERROR", "task 'concurrent Future' failed with Boom, not raised by result_of: it ends otherwise")
        ]
        assert caplog.records[0].exc_info[1] is error

    @pytest.mark.parametrize("ask", ["finds it", "fails"])
    async def test_an_error_of_a_client_in_this_loop_that_comes_too_late(self, caplog, monkeypatch, ask):
        """It has to be asked for, which may fail too."""
        remote = Remote()
        task = await start(result_of(remote))
        remote.inner.set_exception(Boom())
        task.cancel()
        if ask == "fails":
            monkeypatch.setattr(remote, "exception", lambda: 1 / 0)
        await asyncio.wait([task])

        assert task.cancelled()
        found = "Boom" if ask == "finds it" else "ZeroDivisionError"
        assert messages(caplog) == [
            ("ERROR", f"task 'jobs Remote' failed with {found}, not raised by result_of: it ends otherwise")
        ]

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    async def test_the_end_of_a_worker_is_not_logged(self, caplog, kind):
        """Ctrl-C goes to the processes of a pool as well, and there it is what their jobs end with."""
        future = running()
        task = await start(result_of(future))
        task.cancel()
        await turns()
        future.set_exception(kind())
        await asyncio.wait([task])

        assert task.cancelled()
        assert messages(caplog) == []

    async def test_a_second_cancellation_while_the_error_is_asked_for(self, caplog, monkeypatch):
        """It changes nothing: the error is logged, and the first cancellation raised."""
        remote, answer = Remote(), asyncio.Event()

        async def exception():
            await answer.wait()
            return remote.inner.exception()

        monkeypatch.setattr(remote, "exception", exception)
        task = await start(result_of(remote))
        remote.inner.set_exception(Boom())
        task.cancel("first")
        await turns()
        task.cancel("second")
        await turns()
        assert not task.done()
        answer.set()

        with pytest.raises(asyncio.CancelledError, match="first"):
            await task
        assert messages(caplog) == [
            ("ERROR", "task 'jobs Remote' failed with Boom, not raised by result_of: it ends otherwise")
        ]

    @pytest.mark.parametrize("method", ["cancel", "exception"])
    async def test_a_client_that_raises_the_error_of_asyncio(self, caplog, monkeypatch, method):
        """It does not pass for the cancellation of the caller, who still waits for the end of the job."""
        remote = Remote()

        def fail():
            raise asyncio.CancelledError

        monkeypatch.setattr(remote, method, fail)
        task = await start(result_of(remote))
        if method == "exception":
            remote.inner.set_exception(Boom())
        task.cancel()
        if method == "cancel":
            await turns()
            assert not task.done()
            remote.inner.set_result(None)
        await asyncio.wait([task])

        assert task.cancelled()
        assert messages(caplog) == [
            (
                "ERROR",
                "task 'jobs Remote' failed with CancelledError, not raised by result_of: it ends otherwise",
            )
        ]

    @pytest.mark.parametrize("at_once", [True, False])
    async def test_a_cancellation_that_fails_is_logged(self, caplog, monkeypatch, at_once):
        """The job goes on then, and is waited for."""
        remote = Remote()
        remote.refusal = Boom()
        if at_once:
            monkeypatch.setattr(remote, "cancel", lambda: 1 / 0)
        task = await start(result_of(remote))
        task.cancel()
        await turns()
        assert not task.done()
        remote.inner.set_result(None)
        await asyncio.wait([task])

        assert task.cancelled()
        found = "ZeroDivisionError" if at_once else "Boom"
        assert messages(caplog) == [
            ("ERROR", f"task 'jobs Remote' failed with {found}, not raised by result_of: it ends otherwise")
        ]

    async def test_a_timeout_is_raised_when_the_job_is_over(self):
        """However long ago it has passed by then."""
        future = Future()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await result_of(future)

        assert future.cancelled()

    async def test_the_first_error_of_a_gather_cancels_the_others_there(self, pool, job):
        """One has not begun, and never does; one runs, and is waited for."""
        running, waiting = pool.submit(job), pool.submit(pow, 2, 10)
        gathering = await start(try_gather(result_of(running), result_of(waiting), result_of(done(error=Boom()))))
        await turns()
        assert waiting.cancelled()
        assert not gathering.done()
        job.may_end.set()

        with pytest.raises(Boom):
            await gathering
        assert job.ended


async def _wrapped(future):
    return await asyncio.wrap_future(future)


class TestGivenUp:
    async def test_a_coroutine_that_never_starts_cancels_the_future(self):
        """Its task was cancelled before its first step, and nobody else knows of the future."""
        future, remote = Future(), Remote()
        for given in (future, remote):
            # An eager task would have started.
            coroutine = result_of(given)
            coroutine.close()
            del coroutine
        await turns()

        assert future.cancelled()
        assert remote.cancelled()

    async def test_one_that_is_done_is_left_alone(self):
        """There is nothing to cancel, and its result may be wanted."""
        future, remote = done("kept"), Remote()
        remote.inner.set_result("kept")
        for given in (future, remote):
            result_of(given).close()
        await turns()

        assert future.result() == "kept"
        assert remote.cancels == 0

    async def test_a_gather_that_refuses_its_arguments_cancels_the_futures(self):
        """They were given to it, and nobody waits for them any more."""
        future = Future()

        with pytest.raises(TypeError):
            await try_gather(result_of(future), 5)

        assert future.cancelled()

    @pytest.mark.parametrize("kind", [Future, Remote])
    async def test_a_coroutine_that_is_closed_cancels_the_future(self, kind):
        """It cannot wait any more."""
        future = kind()
        coroutine = result_of(future)
        coroutine.send(None)
        coroutine.close()
        await turns()

        assert future.cancelled()

    def test_without_a_loop_nothing_can_be_awaited(self):
        """A client whose loop is gone cannot be asked, and no coroutine of its is left over."""
        coroutine = asyncio.run(_given(Remote))
        remote = coroutine.cr_frame.f_locals["given"].future
        coroutine.close()
        del coroutine
        gc.collect()

        assert remote.cancels == 0

    def test_a_future_that_outlives_the_loop(self, caplog):
        """It ends when nobody can be told any more, and complains of nothing."""

        async def main():
            coroutine = result_of(future)
            coroutine.send(None)
            return coroutine

        future = running()
        coroutine = asyncio.run(main())
        future.set_result(None)

        assert not caplog.records
        coroutine.close()

    def test_the_end_of_a_program_waits_for_its_threads(self, job):
        """What they do is owned by somebody, until it is done."""

        async def main():
            asyncio.get_running_loop().call_soon(job.may_end.set)
            # Cancelled when main has ended.
            asyncio.create_task(result_of(pool.submit(job)))  # noqa: RUF006  # that is what it is about
            while not job.begun.is_set():
                await asyncio.sleep(0)

        with ThreadPoolExecutor(1) as pool:
            run(main)

        assert job.ended


async def _given(kind):
    return result_of(kind())
