"""Questions to an event loop, which may be running in another thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable
from types import FunctionType
from typing import TypeVar

from async_plus import _checks

__all__ = ["PATIENCE", "ask", "checked_loop", "read_while_changing", "time_of"]

_T = TypeVar("_T")

# Seconds for the answer. Probes and scrapes are not patient either.
PATIENCE = 0.5

# How often something is read that another thread changes at the same time. As often as asyncio.all_tasks() tries it.
_ATTEMPTS = 1000


def checked_loop(loop: object, missing: str) -> asyncio.AbstractEventLoop:
    """Return *loop*, or the running one if it is None.

    Raises:
        RuntimeError: It is None, and no loop is running in this thread: *missing*.
        TypeError: It is no event loop.
    """
    found = asyncio._get_running_loop() if loop is None else loop
    if found is None:
        raise RuntimeError(missing)
    if not isinstance(found, asyncio.AbstractEventLoop):
        raise TypeError(f"loop must be an event loop, got {_checks.kind(found)}")
    return found


def time_of(loop: asyncio.AbstractEventLoop) -> float:
    """Tell the time of *loop*; that of uvloop stands still while a step takes long, and the loop sleeps."""
    if isinstance(type(loop).time, FunctionType):
        return loop.time()
    return max(loop.time(), time.monotonic())


def read_while_changing(read: Callable[[], _T]) -> _T:
    """Return what *read* copies. It is called again if it fails, since the loop may run on and change the original.

    Raises:
        RuntimeError: It failed each time.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return read()
        except RuntimeError:  # dictionary changed size during iteration
            pass
    return read()


def ask(loop: asyncio.AbstractEventLoop, question: Callable[[], _T]) -> _T | None:
    """Return what *question* returns when *loop* calls it, or None if it is blocked for too long to do so.

    To walk through the frames of coroutines while another thread runs them is to read what is being written: it
    crashes CPython 3.11.
    """
    if asyncio._get_running_loop() is loop or not loop.is_running():
        return question()
    answer: concurrent.futures.Future[_T] = concurrent.futures.Future()

    def run() -> None:
        # Nobody waits any more for what comes too late.
        if not answer.set_running_or_notify_cancel():
            return
        try:
            answer.set_result(question())
        except Exception as exc:
            answer.set_exception(exc)

    try:
        loop.call_soon_threadsafe(run)
    except RuntimeError:
        return None  # it was closed in this moment
    if concurrent.futures.wait([answer], PATIENCE).not_done and answer.cancel():
        return None
    return answer.result()
