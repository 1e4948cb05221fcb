"""Questions that only the thread of an event loop can answer."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import TypeVar

from async_plus import _checks

__all__ = ["PATIENCE", "ask", "checked_loop"]

_T = TypeVar("_T")

# Seconds for the answer. Probes and scrapes are not patient either.
PATIENCE = 0.5


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
