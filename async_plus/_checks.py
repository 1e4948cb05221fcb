"""Checks of what users pass in: every refusal names the parameter, the value and the likely fix."""

from __future__ import annotations

import functools
import inspect
import math
import operator
from typing import Any, SupportsFloat, SupportsIndex, cast

__all__ = ["callback", "count", "kind", "one_of", "seconds", "string"]


def seconds(name: str, value: object, *, above_zero: bool = False) -> float:
    """Return *value* as finite seconds, zero or more (more than zero if *above_zero*).

    Raises:
        TypeError: It is not a number.
        ValueError: It is negative, NaN or infinite (or zero, if *above_zero*).
    """
    if type(value) is not float and type(value) is not int and not _is_number(value):
        hint = " (use its total_seconds())" if hasattr(type(value), "total_seconds") else ""
        raise TypeError(f"{name} must be a number of seconds, got {kind(value)}{hint}")
    try:
        number = float(cast(SupportsFloat, value))
    except OverflowError:
        number = math.inf
    except ValueError:  # decimal.Decimal("sNaN")
        number = math.nan
    if not math.isfinite(number) or number < 0 or (above_zero and number == 0):
        least = "> 0" if above_zero else ">= 0"
        raise ValueError(f"{name} must be a finite number of seconds {least}, got {number:g}")
    return number


def count(name: str, value: object, *, least: int) -> int:
    """Return *value* as a whole number of at least *least*.

    Raises:
        TypeError: It is not a whole number.
        ValueError: It is too small.
    """
    # numpy's whole numbers are none of int's, but have an __index__ as well.
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise TypeError(f"{name} must be a whole number, got {kind(value)}")
    number = operator.index(cast(SupportsIndex, value))
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {_written(number)}")
    return number


def one_of(name: str, value: object, words: tuple[str, ...]) -> None:
    """Refuse what is none of *words*.

    Raises:
        ValueError: It is something else.
    """
    if not (isinstance(value, str) and value in words):
        got = repr(value) if isinstance(value, str) else kind(value)
        raise ValueError(f"{name} must be one of {', '.join(map(repr, words))}, got {got}")


def string(name: str, value: object, hint: str = "") -> None:
    """Refuse what is not a string; the *hint* goes behind the message.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {kind(value)}{hint}")


def callback(name: str, value: object, signature: str) -> None:
    """Refuse what cannot be called synchronously; *signature* is shown in the message.

    Raises:
        TypeError: *value* is not callable, or calling it would only make a coroutine.
    """
    target = _innermost(value)
    if not callable(target):
        raise TypeError(f"{name} must be a callable {signature}, got {kind(value)}")
    if _is_async(target) or _is_async(type(target).__call__):
        raise TypeError(f"{name} must be synchronous, but {_title(target)} is async (launch a task inside it instead)")


def kind(value: object) -> str:
    """Say what the refused *value* is by names only: its text may hold what must not be printed.

    A coroutine that has not started is closed, since nobody will await it.
    """
    target = _innermost(value)
    _close_unstarted(target)
    return f"{_title(target)} (call it)" if inspect.iscoroutinefunction(target) else _title(target)


def _close_unstarted(value: Any) -> None:
    if inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
        value.close()


def _title(value: object) -> str:
    if inspect.isroutine(value) or inspect.iscoroutinefunction(value):
        return f"the function {getattr(value, '__qualname__', type(value).__name__)}"
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    if isinstance(value, float | int):
        return f"{type(value).__name__} {_written(value)}"
    return type(value).__name__


def _written(number: float) -> str:
    try:
        return str(number)
    except ValueError:  # it has more digits than Python writes
        return "-..." if number < 0 else "..."


def _is_number(value: object) -> bool:
    # Much has a __float__ that is not meant as a time: True, and numpy's; a time span of numpy's, in whatever unit; an
    # array. What is a number says so.
    import numbers

    if isinstance(value, bool) or not hasattr(type(value), "__float__"):
        return False
    return isinstance(value, numbers.Real) or (
        isinstance(value, numbers.Number) and not isinstance(value, numbers.Complex)  # decimal.Decimal
    )


def _innermost(value: object) -> object:
    while isinstance(value, functools.partial):
        value = value.func
    return value


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
