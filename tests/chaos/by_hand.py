"""Drives a coroutine by hand, and closes it while it waits: as `asyncio` never does, and people do."""

from __future__ import annotations

import asyncio
import functools
import math
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Literal

How = Literal["in the task", "in no task", "at a yield"]

_YIELD = object()


@types.coroutine
def at_a_yield() -> Generator[Any, Any, None]:
    """Wait as an async generator does at a ``yield``: for nothing that the loop knows of."""
    yield _YIELD


async def drive(coro: Coroutine[Any, Any, None], how: How, when: float, on_close: Callable[[], None]) -> int:
    """Step *coro* until it ends, or close it at the time *when*, if it still waits then.

    "in the task": as the current task would step it, each cancellation of which reaches it. "in no task": as a
    callback would, so that a cancellation can do nothing but close it. "at a yield": as an async generator, which is
    closed when it is `at_a_yield`, and may await once more then.

    Args:
        on_close: Called before it is closed where it may not await any more.

    Returns:
        How many cancellations came that it was closed with.
    """
    loop = asyncio.get_running_loop()
    step = _step_in_no_task if how == "in no task" else _step
    until = math.inf if how == "at a yield" else when
    told = passed_on = 0
    error: type[BaseException] | None = None
    waits_for: Any = None
    try:
        while True:
            try:
                waits_for = step(coro, error)
            except StopIteration:
                return 0
            except GeneratorExit:
                return told
            error = None
            if waits_for is _YIELD:
                told += await _is_cancelled(_sleep_until(when))
                error = GeneratorExit
                continue
            if waits_for is None:
                error = asyncio.CancelledError if await _is_cancelled(asyncio.sleep(0)) else None
                continue
            waits_for._asyncio_future_blocking = False
            while not waits_for.done():
                if loop.time() < until:
                    if not await _is_cancelled(_first_of(waits_for, until)):
                        continue
                    passed_on += 1
                    if how != "in no task":
                        if not waits_for.cancel():
                            error = asyncio.CancelledError
                        continue
                on_close()
                step(coro, None, close=True)
                return passed_on
    finally:
        # The tracebacks of what it raises lead here, and must not lead on to a task.
        del coro, waits_for


def _step(coro: Coroutine[Any, Any, None], error: type[BaseException] | None, *, close: bool = False) -> Any:
    if close:
        return coro.close()
    return coro.send(None) if error is None else coro.throw(error())


def _step_in_no_task(coro: Coroutine[Any, Any, None], error: type[BaseException] | None, *, close: bool = False) -> Any:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    asyncio.tasks._leave_task(loop, task)
    try:
        return _step(coro, error, close=close)
    finally:
        asyncio.tasks._enter_task(loop, task)
        del task


async def _is_cancelled(waiting: Coroutine[Any, Any, None]) -> bool:
    try:
        await waiting
    except asyncio.CancelledError:
        return True
    return False


async def _sleep_until(when: float) -> None:
    # Never without a turn of the loop.
    await asyncio.sleep(max(0, when - asyncio.get_running_loop().time()))


async def _first_of(future: asyncio.Future[Any], when: float) -> None:
    """Wait until *future* is done or it is *when*, without a thought of how it ends."""
    loop = asyncio.get_running_loop()
    woken = loop.create_future()
    wake = functools.partial(wake_up, woken)
    future.add_done_callback(wake)
    timer = None if when == math.inf else loop.call_at(when, wake, None)
    try:
        await woken
    finally:
        if timer is not None:
            timer.cancel()
        future.remove_done_callback(wake)
        del future, wake


def wake_up(woken: asyncio.Future[None], _: object) -> None:
    """Wake whoever awaits *woken*: the callback of another future."""
    if not woken.done():
        woken.set_result(None)
