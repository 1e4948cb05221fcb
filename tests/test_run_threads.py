"""The default executor of `run`: it does what asyncio's own does, and does not hold up the exit."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import os
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from loops import each_loop
from tools import Boom, messages, refused, turns

from async_plus import run
from async_plus.runner.threads import DaemonPool, _Job
from async_plus.testing import VirtualClockLoop


@pytest.fixture
def pool():
    pool = DaemonPool()
    yield pool
    pool.shutdown()


class Gate:
    """Keeps threads until it is opened."""

    def __init__(self):
        self.opened = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, *args):
        self.entered.release()
        self.opened.wait()
        return args


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.opened.set()


class TestPool:
    """It is a ThreadPoolExecutor."""

    def test_a_job_returns_its_result(self, pool):
        """Arguments are passed on, by name as well."""
        assert isinstance(pool, ThreadPoolExecutor)
        assert pool.submit(dict, [("a", 1)], b=2).result() == {"a": 1, "b": 2}
        assert list(pool.map(abs, [-1, -2])) == [1, 2]

    @pytest.mark.parametrize("kind", [Boom, SystemExit, KeyboardInterrupt])
    def test_a_job_raises_its_exception(self, pool, kind):
        """Whatever it is, and the thread goes on."""
        error = kind()

        def fail():
            raise error

        assert pool.submit(fail).exception() is error
        assert pool.submit(abs, -1).result() == 1

    def test_there_are_as_many_threads_as_in_an_ordinary_pool(self, pool, gate):
        """And no more than there are jobs."""
        [most] = {ThreadPoolExecutor()._max_workers, pool._max_workers}
        names = {pool.submit(lambda: threading.current_thread().name).result() for _ in range(5)}
        assert names == {"asyncio_0"}

        jobs = [pool.submit(gate) for _ in range(most + 3)]
        for _ in range(most):
            assert gate.entered.acquire(timeout=10)
        assert sum(job.running() for job in jobs) == most
        gate.opened.set()
        assert [job.result() for job in jobs] == [()] * (most + 3)
        # All are idle again.
        again = [pool.submit(threading.current_thread) for _ in range(most)]
        assert all(job.result().name.startswith("asyncio_") for job in again)

    def test_its_threads_are_daemons(self, pool):
        """So the interpreter does not wait for them."""
        assert pool.submit(threading.current_thread).result().daemon

    def test_a_job_that_was_cancelled_in_time_does_not_run(self, pool, gate, monkeypatch):
        """One that runs cannot be cancelled."""
        monkeypatch.setattr(pool, "_most", 1)
        first, ran = pool.submit(gate), []
        second = pool.submit(ran.append, 1)
        assert gate.entered.acquire(timeout=10)

        assert [first.cancel(), second.cancel()] == [False, True]
        gate.opened.set()
        assert pool.submit(abs, -1).result() == 1
        assert ran == []

    def test_after_its_shutdown_it_takes_no_more(self, pool):
        """In the words of the original."""
        pool.shutdown()
        with refused(RuntimeError, "cannot schedule new futures after shutdown"):
            pool.submit(abs, -1)

    def test_a_shutdown_waits_for_all_jobs(self, pool, gate, monkeypatch):
        """For those that have not begun, too; the threads end."""
        monkeypatch.setattr(pool, "_most", 1)
        jobs = [pool.submit(gate), pool.submit(threading.current_thread)]
        threading.Timer(0.01, gate.opened.set).start()

        pool.shutdown()

        assert all(job.done() for job in jobs)
        jobs[1].result().join(10)
        assert not jobs[1].result().is_alive()

    def test_a_shutdown_may_cancel_what_has_not_begun(self, pool, gate, monkeypatch):
        """As that of the original."""
        monkeypatch.setattr(pool, "_most", 1)
        jobs = [pool.submit(gate), pool.submit(gate)]
        assert gate.entered.acquire(timeout=10)

        pool.shutdown(wait=False, cancel_futures=True)
        pool.shutdown(wait=False, cancel_futures=True)

        assert [job.cancelled() for job in jobs] == [False, True]

    def test_a_thread_that_cannot_be_started_takes_no_job_with_it(self, pool, monkeypatch):
        """The next one may get its thread."""

        def refuse(self):
            raise RuntimeError("can't start new thread")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with refused(RuntimeError, "can't start new thread"):
                pool.submit(abs, -1)
        assert pool.submit(abs, -1).result() == 1
        assert pool.finish(10) == ()

    def test_nothing_of_a_job_lives_on(self, pool):
        """Its arguments, result and exception go when whoever asked for them lets go."""

        class Thing:
            def fail(self):
                raise Boom

        thing = Thing()
        dead = weakref.ref(thing)
        job = pool.submit(thing.fail)
        concurrent.futures.wait([job])
        gc.disable()
        try:
            del thing, job
            # The thread lets go of it when it has told of the result.
            limit = time.monotonic() + 10
            while dead() is not None and time.monotonic() < limit:
                time.sleep(0.001)
            assert dead() is None
        finally:
            gc.enable()


class TestFinish:
    """What does not end in time is left behind."""

    def test_what_is_left_is_told_by_name(self, pool, gate, monkeypatch):
        """What runs, and what has not even begun; never an argument."""
        monkeypatch.setattr(pool, "_most", 1)
        jobs = [
            pool.submit(functools.partial(gate, "secret")),
            pool.submit(functools.partial(contextvars.copy_context().run, abs, "secret")),
            pool.submit(functools.partial(contextvars.copy_context().run), abs, "secret"),
        ]
        assert gate.entered.acquire(timeout=10)

        assert pool.finish(0) == ("Gate", "abs", "Context.run")
        assert [job.cancelled() for job in jobs] == [False, True, True]
        # Which waits for nothing any more.
        pool.shutdown(wait=True)

    def test_what_ends_in_time_is_not(self, pool, gate):
        """It waits no longer than it must."""
        pool.submit(gate)
        threading.Timer(0.01, gate.opened.set).start()

        assert pool.finish(60) == ()

    def test_what_has_just_ended_is_not_left(self, pool, gate, monkeypatch):
        """Its thread may not have taken note of it yet, when whoever waits for it goes on."""

        class SlowToNote(_Job):
            def run(self):
                super().run()
                gate()

        monkeypatch.setattr("async_plus.runner.threads._Job", SlowToNote)
        assert pool.submit(abs, -1).result() == 1

        assert pool.finish(0) == ()


class TestRun:
    """`run` makes one for each loop."""

    @each_loop
    def test_it_is_the_default_executor(self, loop_factory):
        """For to_thread and run_in_executor; context variables come along with the first as always."""
        variable = contextvars.ContextVar("variable")

        async def main():
            variable.set(5)
            thread = await asyncio.get_running_loop().run_in_executor(None, threading.current_thread)
            return thread.daemon, await asyncio.to_thread(variable.get)

        assert run(main, loop_factory=loop_factory) == (True, 5)

    @each_loop
    def test_jobs_that_nobody_waits_for_are_finished_after_main(self, loop_factory, monkeypatch, caplog):
        """Also those that have not begun, and those that need the loop. So does asyncio.run."""
        monkeypatch.setattr(os, "cpu_count", lambda: 1)
        monkeypatch.setattr(os, "process_cpu_count", lambda: 1, raising=False)
        log = []

        def job(loop):
            answered = threading.Event()
            loop.call_soon_threadsafe(answered.set)
            log.append(answered.wait(10))

        async def main():
            loop = asyncio.get_running_loop()
            for _ in range(7):
                loop.run_in_executor(None, job, loop)

        run(main, loop_factory=loop_factory)
        assert log == [True] * 7
        assert caplog.records == []

    @each_loop
    def test_no_thread_outlives_it(self, loop_factory):
        """However often a program calls it, as a test suite may."""

        async def main():
            await asyncio.to_thread(threading.current_thread)

        before = threading.enumerate()
        run(main, loop_factory=loop_factory)
        left = [thread for thread in threading.enumerate() if thread not in before]
        # They have been told to end.
        for thread in left:
            thread.join(10)
        assert [thread.name for thread in left if thread.is_alive()] == []

    @each_loop
    @pytest.mark.usefixtures("patient_watchdog")
    def test_one_that_does_not_end_is_left_behind_with_a_warning(self, loop_factory, gate, caplog):
        """After the grace, and main's result is returned all the same."""

        async def main():
            task = asyncio.create_task(asyncio.to_thread(gate, "secret"))
            await turns()
            assert gate.entered.acquire(timeout=10)
            await asyncio.wait([task], timeout=0)
            return 1

        assert run(main, grace=0.01, loop_factory=loop_factory) == 1
        assert messages(caplog) == [("WARNING", "1 call in threads left behind, not ended within 0.0 s: Gate")]
        [record] = caplog.records
        assert record.async_plus_functions == "Gate"

    def test_threads_are_waited_for_in_real_time(self, gate, caplog):
        """A virtual clock stands still for them."""

        async def main():
            loop = asyncio.get_running_loop()
            loop.run_in_executor(None, gate)
            threading.Timer(0.01, gate.opened.set).start()

        run(main, loop_factory=VirtualClockLoop)
        assert caplog.records == []

    @each_loop
    def test_another_executor_is_closed_as_by_asyncio(self, loop_factory):
        """Main may set one of its own: its jobs are waited for."""
        log = []

        async def main():
            loop = asyncio.get_running_loop()
            loop.set_default_executor(ThreadPoolExecutor())
            loop.run_in_executor(None, lambda: (time.sleep(0.01), log.append("done")))

        run(main, loop_factory=loop_factory)
        assert log == ["done"]
