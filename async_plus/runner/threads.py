"""The default executor of `run`: a pool whose threads do not hold up the exit of the process."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from typing import Any, ParamSpec, TypeVar

from async_plus.stacks.names import callable_name

__all__ = ["DaemonPool"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Job:
    __slots__ = ("args", "fn", "future", "kwargs")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.future: Future[Any] = Future()
        self.fn = fn
        self.args = args
        self.kwargs = kwargs

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.fn(*self.args, **self.kwargs)
        except BaseException as exc:
            self.future.set_exception(exc)
            # The exception leads to this frame.
            del self
        else:
            self.future.set_result(result)


class DaemonPool(ThreadPoolExecutor):
    """A ThreadPoolExecutor, as asyncio wants its default executor to be, with daemon threads.

    The interpreter waits at its end for every thread of the pools that it knows, without a limit. So all that makes
    threads is done here, and the class above is asked for nothing but its name:

        await asyncio.to_thread(socket.recv, 1)     # cancelled; yet the thread stays there for ever
    """

    def __init__(self) -> None:
        # As many as asyncio's own would have.
        count: Callable[[], int | None] = getattr(os, "process_cpu_count", os.cpu_count)
        self._most = min(32, (count() or 1) + 4)
        super().__init__(self._most)
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # Those not done, in the order they were given.
        self._unfinished: dict[Future[Any], Callable[..., Any]] = {}
        self._started = 0
        # Threads that wait for a job and are meant for none yet, and jobs that no thread is meant for yet.
        self._idle = self._backlog = 0
        self._closed = self._left_behind = False

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Call ``fn(*args, **kwargs)`` in a thread."""
        job = _Job(fn, args, kwargs)
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._idle:
                self._idle -= 1
            elif self._started < self._most:
                name = f"asyncio_{self._started}"
                threading.Thread(target=self._work, name=name, daemon=True).start()
                self._started += 1
            else:
                self._backlog += 1
            self._unfinished[job.future] = fn
            self._jobs.put(job)
        return job.future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            with self._lock:
                self._unfinished.pop(job.future, None)
                if self._backlog:
                    self._backlog -= 1
                else:
                    self._idle += 1
            # Nothing of it may live on until the next one comes.
            del job

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs, and wait for those that `finish` has not left behind."""
        with self._lock:
            self._closed = True
            if cancel_futures:
                self._cancel_waiting()
            for _ in range(self._started):
                self._jobs.put(None)
            unfinished = () if self._left_behind else tuple(self._unfinished)
        if wait:
            concurrent.futures.wait(unfinished)

    def _cancel_waiting(self) -> None:
        jobs: list[_Job] = []
        try:
            while True:
                if (job := self._jobs.get_nowait()) is not None:
                    jobs.append(job)
        except queue.Empty:
            pass
        for job in jobs:
            job.future.cancel()
            self._unfinished.pop(job.future)

    def finish(self, timeout: float) -> tuple[str, ...]:
        """Take no more jobs, wait *timeout* seconds for all to be done, and leave the others behind.

        Returns:
            The names of the functions of the others.
        """
        self.shutdown(wait=False)
        with self._lock:
            unfinished = tuple(self._unfinished)
        concurrent.futures.wait(unfinished, timeout)
        with self._lock:
            # Who waits for a job hears of its end before we do.
            left = tuple(_function_name(fn) for job, fn in self._unfinished.items() if not job.done())
            self._left_behind = True
        self.shutdown(wait=False, cancel_futures=True)
        return left


def _function_name(fn: Any) -> str:
    """Name a function, or that which `asyncio.to_thread` wraps in one that sets its context."""
    while isinstance(fn, functools.partial):
        runs_in_context = isinstance(getattr(fn.func, "__self__", None), Context) and fn.args
        fn = fn.args[0] if runs_in_context else fn.func
    return callable_name(fn)
