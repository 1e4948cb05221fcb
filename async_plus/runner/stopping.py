"""`stopping`: has the program been told to stop."""

from __future__ import annotations

import asyncio

from async_plus.engine.per_loop import per_loop

__all__ = ["stop_event", "stopping"]


def _make_event(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    return asyncio.Event()


def stop_event(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """Return the event of *loop*."""
    return per_loop(loop, _make_event)


def stopping() -> asyncio.Event:
    """Return the event that is set when the program has been told to stop.

    For loops that want to finish the item at hand, and not begin another one:

        while not stopping().is_set():
            await handle(await queue.get())

    `run` sets it at the first SIGTERM or SIGINT, ``drain`` seconds before it cancels main, and keeps it set. Under
    `asyncio.run` there is an event as well, which nobody sets.

    Returns:
        The `asyncio.Event` of the running loop, always the same one.

    Raises:
        RuntimeError: No event loop is running in this thread.

    .. versionadded:: 1.0
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        message = "stopping() needs a running event loop, whose event it returns: call it from a coroutine"
        raise RuntimeError(message) from None
    return stop_event(loop)
