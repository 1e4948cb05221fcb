"""Names of things, found without running a line of their code.

What is looked at belongs to users, and is looked at when something went wrong already. Its ``__repr__`` may
show a password, its ``__getattr__`` may raise, its ``__class__`` may lie.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, TypeGuard

__all__ = [
    "callable_name",
    "coroutine_of",
    "is_compiled_coroutine",
    "is_done",
    "is_future",
    "is_task",
    "name_of",
    "name_of_task",
    "name_of_type",
    "plain",
    "task_name",
    "type_name",
    "type_of",
]

# The Python classes stay there when the C ones replace them, and a program may use both.
_FUTURES: tuple[type, ...] = (asyncio.Future, getattr(asyncio.futures, "_PyFuture", asyncio.Future))
_TASKS: tuple[type, ...] = (asyncio.Task, getattr(asyncio.tasks, "_PyTask", asyncio.Task))
_GENERATORS: tuple[type, ...] = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)
_FUNCTIONS: tuple[type, ...] = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)

_NOTHING = object()

# For a type checker, which loses track of `type(Any)`.
type_of: Callable[[object], type[object]] = type

# A metaclass can shadow `__name__`, so the slot is read from `type` itself.
name_of_type: Callable[[type], str] = type.__dict__["__name__"].__get__


def plain(text: str) -> str:
    """Make *text* an exact ``str``, whose formatting no subclass can hook into."""
    return str.__str__(text)


def type_name(thing: object) -> str:
    """Name the type of *thing*."""
    return name_of_type(type(thing))


def is_task(thing: object) -> TypeGuard[asyncio.Task[Any]]:
    """Tell a Task, the C one or the Python one, by its true type."""
    return issubclass(type(thing), _TASKS)


def is_future(thing: object) -> TypeGuard[asyncio.Future[Any]]:
    """Do as ``asyncio.isfuture`` does, but look at the true type alone."""
    return (
        issubclass(type(thing), _FUTURES)
        or inspect.getattr_static(type(thing), "_asyncio_future_blocking", None) is not None
    )


def is_done(future: asyncio.Future[Any]) -> bool:
    """Ask *future* whether it is done; one that fails to answer counts as not done."""
    try:
        return future.done()
    except (Exception, asyncio.CancelledError):  # a subclass of the user's
        return False


def is_compiled_coroutine(thing: object) -> bool:
    """Tell a coroutine that is none of Python's own but looks like one, as Cython's do."""
    return inspect.getattr_static(type(thing), "cr_await", _NOTHING) is not _NOTHING


def coroutine_of(task: asyncio.Task[Any]) -> object:
    """Return the coroutine that *task* runs, or None.

    Not by ``task.get_coro()``: for a task that finished in its eager first step it crashes CPython 3.12.1
    (gh-122332). The attribute behind it does not.
    """
    try:
        return getattr(task, "_coro", None)
    except Exception:  # a class of the user's
        return None


def name_of_task(task: asyncio.Task[Any]) -> str:
    """Return the name of *task*, or of what it runs if it has none; it never raises."""
    try:
        name = plain(task.get_name())
    except Exception:  # a class of the user's
        return type_name(task)
    # Through a task factory, CPython 3.13.0 names every nameless task "None".
    return name_of(task) if name == "None" else name


def task_name(task: asyncio.Task[Any]) -> str:
    """Quote the name of *task*."""
    return repr(name_of_task(task))


def name_of(awaitable: object) -> str:
    """Name something that is awaited.

    A coroutine or generator is named by its ``__qualname__``, a task by its coroutine's, anything else by its
    type. No ``repr()`` or ``str()`` of the object is ever taken: those show arguments and results.

    Args:
        awaitable: Anything at all.

    .. versionadded:: 1.0
    """
    subject: Any = coroutine_of(awaitable) if is_task(awaitable) else awaitable
    if type(subject) in _GENERATORS or is_compiled_coroutine(subject):
        try:
            return plain(subject.__qualname__)
        except Exception:  # a class of the user's that only looks like a coroutine
            return type_name(awaitable)
    return type_name(awaitable)


def callable_name(func: Any) -> str:
    """Name a function, method or partial by its qualname, anything else by its type."""
    kind = type_of(func)
    while kind is functools.partial:
        func = func.func
        kind = type_of(func)
    return plain(func.__qualname__) if issubclass(kind, _FUNCTIONS) else type_name(func)
