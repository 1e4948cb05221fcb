"""Coroutines as objects: which functions make them, and what becomes of those that never start."""

# What is a coroutine or a list by its type is one "of unknown" to pyright from then on.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
from collections.abc import Coroutine, Iterable, ValuesView
from types import CoroutineType
from typing import Any, TypeGuard, TypeVar

from async_plus._checks import kind

__all__ = [
    "Unstarted",
    "check_fresh",
    "close_unstarted",
    "function_name",
    "is_coroutine_function",
    "mark_coroutine_function",
    "unmark_coroutine_function",
    "what_else",
]

_F = TypeVar("_F")

# The marks that make a plain function, or a class of callables, pass for one whose calls return coroutines: inspect has
# its own since 3.12, asyncio's is older and goes with 3.14.
_MARKS = ("_is_coroutine_marker", "_is_coroutine")

if sys.version_info >= (3, 14):  # pragma: >=3.14 cover
    is_coroutine_function = inspect.iscoroutinefunction
else:  # pragma: <3.14 cover
    is_coroutine_function = asyncio.iscoroutinefunction


def mark_coroutine_function(func: _F) -> _F:
    """Mark a plain function, or a class of callables, as one whose calls return coroutines."""
    marked: Any = func
    if sys.version_info >= (3, 12):  # pragma: >=3.12 cover
        inspect.markcoroutinefunction(marked)
    else:  # pragma: <3.12 cover
        coroutines: Any = asyncio.coroutines
        marked._is_coroutine = coroutines._is_coroutine
    return func


def unmark_coroutine_function(func: object) -> None:
    """Remove such marks from *func*, which may have been copied from the function that it wraps."""
    for mark in _MARKS:
        vars(func).pop(mark, None)


def function_name(target: object) -> str:
    """Name a function by its qualname, and an object that is called like one by its type."""
    name = getattr(target, "__qualname__", None)
    # An object has none, and a mock has another mock.
    return name if isinstance(name, str) else type(target).__qualname__


def what_else(target: Any, do: str = "decorate") -> str:
    """Say what *target* is if it is no coroutine function, and what to *do* instead: "decorate", "pass"."""
    name = function_name(target)
    if inspect.isasyncgenfunction(target):
        return f"{name} is an async generator function ({do} the coroutine function that iterates over it)"
    if isinstance(target, type):
        return f"{name} is a class ({do} its async methods)"
    if isinstance(target, Coroutine):
        return f"{name} is a coroutine object (pass the function itself, without calling it)"
    if not callable(target):
        if hasattr(target, "__get__"):
            return f"got {type(target).__qualname__} ({do} the function inside it)"
        return f"got {kind(target)}" + (" (options are given by name)" if do == "decorate" else "")
    if inspect.isroutine(target):
        return f'{name} is a plain function (is "async" missing before "def"?)'
    return f"got {kind(target)}, whose __call__ is not async"


def check_fresh(name: str, value: object) -> None:
    """Refuse anything but a coroutine that has not started.

    Raises:
        TypeError: It is not a coroutine.
        ValueError: It has been awaited or closed already.
    """
    if type(value) is CoroutineType:
        # cr_frame is None once it has ended, whether it ran or was closed.
        if value.cr_frame is None or value.cr_suspended or value.cr_running:
            raise ValueError(f"{name} was awaited or closed before: coroutine {value.__qualname__}")
    elif not isinstance(value, Coroutine):
        raise TypeError(f"{name} must be a coroutine, got {kind(value)}")
    elif getattr(value, "cr_frame", value) is None or getattr(value, "cr_await", None) is not None:
        # Of Cython's, which tell less.
        function = getattr(value, "__qualname__", type(value).__qualname__)
        raise ValueError(f"{name} was awaited or closed before: coroutine {function}")


def close_unstarted(*values: object) -> None:
    """Close those of *values* that are coroutines and have not started, so that Python does not warn of them.

    A collection is looked into: it is what people pass who forget the star in ``f(*coroutines)``. A coroutine that
    somebody else is awaiting is left alone.
    """
    for value in values:
        items: Iterable[object] = (value,)
        if isinstance(value, dict):
            items = value.values()
        elif isinstance(value, (list, tuple, set, frozenset, ValuesView)):
            items = value
        for item in items:
            if not _is_unstarted(item):
                continue
            # A class of the user's own may fail, which matters less than the error, or the end, for which it is closed.
            with contextlib.suppress(Exception):
                item.close()


def _is_unstarted(value: object) -> TypeGuard[Coroutine[Any, Any, Any]]:
    if type(value) is CoroutineType:
        return not (value.cr_suspended or value.cr_running)
    return isinstance(value, Coroutine) and getattr(value, "cr_await", None) is None


class Unstarted:
    """The awaitables given to a coroutine of ours, closed with it if it never starts.

    Without it, they would be warned of although nobody forgot them:

        task = create_task(try_gather(fetch(1), fetch(2)))
        task.cancel()        # try_gather never runs a line, and both fetches "were never awaited"
    """

    __slots__ = ("aws",)

    def __init__(self, aws: tuple[Any, ...]) -> None:
        # Emptied by whoever takes them over.
        self.aws = aws

    def __del__(self) -> None:
        close_unstarted(*self.aws)
