"""State that belongs to one event loop, and goes when the loop goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["peek", "per_loop"]

_T = TypeVar("_T")


def per_loop(loop: asyncio.AbstractEventLoop, factory: Callable[[asyncio.AbstractEventLoop], _T]) -> _T:
    """Return what *factory* made for *loop*, making it at the first call.

    It is kept on the loop itself. A table of ours with the loop as a weak key would keep every loop for ever
    (gh-91887), because what it holds leads back to its key:

        weak_table[loop] = {task}       # and task._loop is loop
    """
    home: Any = loop
    try:
        return home._async_plus[factory]  # type: ignore[no-any-return]  # one type per factory
    except (AttributeError, KeyError):
        state: dict[Any, Any] = loop.__dict__.setdefault("_async_plus", {})
        return state.setdefault(factory, factory(loop))  # type: ignore[no-any-return]  # one type per factory


def peek(loop: asyncio.AbstractEventLoop, factory: Callable[[asyncio.AbstractEventLoop], _T]) -> _T | None:
    """Return what *factory* made for *loop*, None if it has not been asked to. From any thread."""
    state: dict[Any, Any] = getattr(loop, "_async_plus", {})
    return state.get(factory)
