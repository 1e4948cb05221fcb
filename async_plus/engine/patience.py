"""Waits that tell what they wait for: the engine of `impatient`."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import sys
from asyncio import current_task, get_running_loop
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import copy_context
from types import CodeType, CoroutineType, TracebackType
from typing import Any, Final, NoReturn, Self, TypeVar, cast, get_args

from async_plus import _checks, stacks
from async_plus._coroutines import check_fresh, close_unstarted, is_coroutine_function
from async_plus.engine.long_waits import Entry, LogCompletion, Patience, Register, Registers, awaiting, is_user_code
from async_plus.engine.owned import check_foreign
from async_plus.engine.per_loop import per_loop

__all__ = [
    "COROUTINE",
    "USUAL",
    "Block",
    "LogCompletion",
    "Patience",
    "check_awaitable",
    "check_patience",
    "close_at_end",
    "impatiently",
]

_T = TypeVar("_T")

# Not to be taken by type checkers for a CoroutineType of unknown types.
COROUTINE: Any = CoroutineType

_NO_TASK = "impatient must be awaited in a task"

# Different options that are remembered as checked.
_REMEMBERED = 256

# On 3.11 there is no way to ask a task for its context later.
_COPY_CONTEXT: Final = sys.version_info < (3, 12)


# What is asked for.


def check_patience(
    log_after: object, log_completion: object, log_level: object = None, stacklevel: object = 0
) -> Patience:
    """Return the options as one object.

    Raises:
        TypeError: One is of a wrong kind.
        ValueError: *log_after* is missing, or not a finite number above zero, or *log_completion* is none of its words.
    """
    options = (log_after, log_completion, log_level, stacklevel)
    check: Callable[..., Patience] = _check
    try:
        hash(options)
    except TypeError:
        # It cannot be remembered, and will be refused: in our words.
        check = _check.__wrapped__
    return check(*options)


# By their types too: True equals 1, and is no number of seconds.
@functools.lru_cache(_REMEMBERED, typed=True)
def _check(log_after: Any, log_completion: Any, log_level: Any, stacklevel: Any) -> Patience:
    _checks.one_of("log_completion", log_completion, get_args(LogCompletion))
    if log_after is not None:
        seconds = _checks.seconds("log_after", log_after, above_zero=True)
    elif log_completion == "always":
        seconds = math.inf
    else:
        raise ValueError("log_after is missing: the number of seconds after which a wait is long")
    if log_level is not None:
        log_level = _checks.count("log_level", log_level, least=0)
    stacklevel = _checks.count("stacklevel", stacklevel, least=0)
    return Patience(seconds, log_completion, log_level, stacklevel)


class _Usual(dict[float, Patience]):
    """The options of those who give a *log_after* only, an int or a float."""

    def __missing__(self, log_after: float) -> Patience:
        patience = check_patience(log_after, "after_long_wait")
        if len(self) >= _REMEMBERED:
            self.clear()
        self[log_after] = patience
        return patience


USUAL = _Usual()


def check_awaitable(aw: object) -> None:
    """Refuse what cannot be awaited; of a coroutine of Python's own the `await` will tell.

    Raises:
        TypeError: *aw* is not awaitable.
        ValueError: It is a coroutine that was awaited or closed before.
    """
    if isinstance(aw, Coroutine):
        check_fresh("aw", cast(object, aw))
    elif not inspect.isawaitable(aw):
        hint = ", or decorate with @impatient(log_after=...)" if is_coroutine_function(aw) else ""
        raise TypeError(f"impatient() takes an awaitable, got {_checks.kind(aw)}{hint}")


# The await.


async def impatiently(
    aw: Awaitable[_T],
    patience: Patience,
    name: str | None = None,
    source: CodeType | None = None,
    unstarted: Generator[None] | None = None,
) -> _T:
    """Await *aw*, and tell of a long wait.

    Args:
        name: What to call it, if not by its own name.
        source: The code of the function that was decorated.
        unstarted: A started `close_at_end`, which answers for *aw* until it is awaited.
    """
    try:
        loop = get_running_loop()
        task = current_task(loop)
        if task is None:
            raise RuntimeError(_NO_TASK)
        if type(aw) is not COROUTINE and asyncio.isfuture(cast(object, aw)):
            check_foreign("the awaited future", cast("asyncio.Future[Any]", aw), loop)
        # This is what a quick wait costs, so it is written out: `per_loop`, and `Register.enter`.
        home: Any = loop
        try:
            register: Register = home._async_plus_registers[patience.log_after]
        except (AttributeError, KeyError):
            register = per_loop(loop, Registers).register(patience.log_after)
        context = copy_context() if _COPY_CONTEXT else None
        key = register.serial = register.serial + 1
        register.waits[key] = entry = (loop.time(), task, aw, patience, name, source, context)
        if not register.armed:
            register.arm(entry[0] + register.gap)
    except BaseException:
        close_unstarted(aw)
        raise
    if unstarted is not None:
        next(unstarted, None)
    try:
        result = await aw
    except BaseException as exc:
        long = register.waits.pop(key, None) is None
        refused = type(exc) is RuntimeError and type(aw) is COROUTINE and _is_refusal(exc)
        if refused:
            name = stacks.name_of(aw)
        elif long or patience.always:
            register.ended(key, entry, exc, inspect.currentframe())
        # The traceback leads here, and must not lead on to a task that has the exception: this one, or the awaited.
        del aw, task, entry, context, register
        if refused:
            raise ValueError(f"aw was awaited or closed before: coroutine {name}") from None
        raise
    if register.waits.pop(key, None) is None or patience.always:
        register.ended(key, entry, None, inspect.currentframe())
    return result


# What a coroutine that nobody awaits is called in Python's warning.
impatiently.__name__ = impatiently.__qualname__ = "impatient"


def _is_refusal(error: RuntimeError) -> bool:
    """Tell whether *error* is what Python says to an `await` of a coroutine that was awaited before.

    To ask the coroutine in advance takes half as long again as all the rest of a quick wait.
    """
    tb = error.__traceback__
    return tb is not None and tb.tb_next is None and str(error) in _REFUSALS


_REFUSALS = ("cannot reuse already awaited coroutine", "coroutine is being awaited already")


def close_at_end(aw: object) -> Generator[None]:
    """Close *aw* when this generator, once started, is let go before it has come to its own end.

    It does for a quick wait what `Unstarted` does, at half the price.
    """
    try:
        yield
    except GeneratorExit:
        close_unstarted(aw)


# The block.


class Block:
    """An ``async with`` block that tells when it takes long.

    It serves one block at a time, and may then serve another one.
    """

    __slots__ = ("_entered", "_name", "_patience")

    def __init__(self, patience: Patience, name: str | None) -> None:
        self._patience = patience
        self._name = name
        self._entered: tuple[Register, int, Entry] | None = None

    def __enter__(self) -> NoReturn:
        raise TypeError("use 'async with impatient(...)', not 'with'")

    def __exit__(self, *_: object) -> NoReturn:
        raise TypeError("use 'async with impatient(...)', not 'with'")

    async def __aenter__(self) -> Self:
        if self._entered is not None:
            raise RuntimeError("this impatient block is in use: make one for each block")
        loop = get_running_loop()
        task = current_task(loop)
        if task is None:
            raise RuntimeError(_NO_TASK)
        # Under an AsyncExitStack the caller is a file of the standard library.
        origin = next((spot for spot in awaiting(inspect.currentframe()) if is_user_code(spot[0])), None)
        name = self._name or ("block" if origin is None else origin[0].co_qualname)
        context = copy_context() if _COPY_CONTEXT else None
        entry = (loop.time(), task, self, self._patience, name, origin, context)
        register = per_loop(loop, Registers).register(self._patience.log_after)
        self._entered = register, register.enter(entry), entry
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._entered is None:
            raise RuntimeError("this impatient block was not entered")
        (register, key, entry), self._entered = self._entered, None
        if register.waits.pop(key, None) is None or self._patience.always:
            register.ended(key, entry, exc, inspect.currentframe())
