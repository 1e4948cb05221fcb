"""Work that runs elsewhere, and its futures."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future


def running():
    """A future whose job has begun, so that it cannot be cancelled any more."""
    future = Future()
    assert future.set_running_or_notify_cancel()
    return future


def done(result=None, error=None):
    future = Future()
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
    return future


class Remote:
    """A future as Dask has it for a client in this loop: its methods return coroutines, and it can be awaited."""

    def __init__(self):
        self.inner = Future()
        self.cancels = 0
        self.refusal = None
        self.fetched, self.answered = asyncio.Event(), asyncio.Event()
        self.fetched.set()
        self.answered.set()

    def __await__(self):
        return self.result().__await__()

    def add_done_callback(self, fn):
        self.inner.add_done_callback(lambda _: fn(self))

    def done(self):
        return self.inner.done()

    def cancelled(self):
        return self.inner.cancelled()

    async def cancel(self):
        self.cancels += 1
        await self.answered.wait()
        if self.refusal is not None:
            raise self.refusal
        self.inner.cancel()

    async def exception(self):
        await asyncio.sleep(0)
        return self.inner.exception()

    async def result(self):
        await self.fetched.wait()
        return self.inner.result()


class Job:
    """A function that a thread is in the middle of."""

    def __init__(self):
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.ended = False

    def __call__(self, outcome=None):
        self.begun.set()
        self.may_end.wait(30)
        self.ended = True
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome
