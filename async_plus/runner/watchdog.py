"""A thread that ends a process which would not stop, whatever its event loop hangs in."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass

from async_plus.runner.exits import exit_at_once

__all__ = ["Watchdog"]


@dataclass(frozen=True, slots=True)
class _Within:
    """Say within how many seconds the next order must come, None for no limit."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class _Exit:
    code: int
    last_words: Callable[[], object]


class Watchdog:
    """Ends the process with *code* when the time is up, after the *last_words*.

    All its methods may be called in a signal handler, which may have interrupted anything: a `SimpleQueue` is made for
    that, and the thread runs from the beginning, since to start one takes locks. Time is real, even where a loop's own
    is not.
    """

    def __init__(self, code: int, last_words: Callable[[], object]) -> None:
        self._too_late = _Exit(code, last_words)
        self._orders: queue.SimpleQueue[_Within | _Exit | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._watch, name="async_plus watchdog", daemon=True)
        self._thread.start()

    def within(self, seconds: float | None) -> None:
        """Begin to wait for *seconds*, in place of what is left of the time before."""
        self._orders.put(_Within(seconds))

    def exit(self, code: int, last_words: Callable[[], object] = lambda: None) -> None:
        """End the process with *code* now, after the *last_words* and a flush of the logs."""
        self._orders.put(_Exit(code, last_words))

    def end(self) -> None:
        """End the thread, or wait for the end of the process if that was ordered before."""
        self._orders.put(None)
        self._thread.join()

    def _watch(self) -> None:
        order: _Within | _Exit | None = _Within(None)
        while isinstance(order, _Within):
            try:
                order = self._orders.get(timeout=order.seconds)
            except queue.Empty:
                order = self._too_late
        if order is not None:
            exit_at_once(order.code, order.last_words)
