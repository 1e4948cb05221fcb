"""`dump_on_signal`: what a hanging program is doing, asked from outside."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
import time
from asyncio import CancelledError
from collections.abc import Iterator
from types import CodeType, FrameType, TracebackType
from typing import Any, Self

from async_plus import _checks
from async_plus._signals import SIGUSR1, check_signal, signal_name
from async_plus.diagnostics.ask import ask
from async_plus.diagnostics.render import printable
from async_plus.diagnostics.snapshot import snapshot
from async_plus.stacks import Place, is_user_code
from async_plus.stacks.names import plain, type_name

__all__ = ["SignalDump", "dump_on_signal"]

_STDERR = 2

# Seconds without a byte taken, after which a reader of stderr counts as gone.
_PATIENCE = 5.0

# Lines of a stack: a recursion may be deep.
_LINES = 30


def dump_on_signal(signum: int | None = SIGUSR1, loop: asyncio.AbstractEventLoop | None = None) -> SignalDump:
    """Write a `snapshot` to stderr whenever the process gets a signal.

        async def main():
            dump_on_signal()
            ...

        $ kill -USR1 1234

    It is written by the signal's handler itself, so that it works while the event loop is blocked, too; where the main
    thread is blocked, and what other threads are doing, is told at the end. It goes to the file descriptor 2, past
    buffers and logs that may be what the program hangs on. (If nobody reads what comes out there, it waits.)

    Args:
        signum: SIGUSR1, or another signal. (Windows has no SIGUSR1, so that one must be given there.)
        loop: The event loop to look at, if not the one that the main thread is running by then. One that runs in
            another thread is asked to look for itself; if it is blocked, its tasks are read from outside.

    Returns:
        A handle whose ``close()`` puts back the handler that was there before. It is a ``with`` block too.

    Raises:
        RuntimeError: This is not the main thread.
        TypeError: *signum* is not a number, or *loop* no event loop.
        ValueError: *signum* is no signal that a program can handle.

    .. versionadded:: 1.0
    """
    checked = check_signal("signum", signum)
    if loop is not None and not isinstance(loop, asyncio.AbstractEventLoop):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"loop must be an event loop, got {_checks.kind(loop)}")
    return SignalDump(checked, loop)


class SignalDump:
    """An installed handler: what `dump_on_signal` returns.

    .. versionadded:: 1.0
    """

    __slots__ = ("_asked", "_is_closed", "_loop", "_previous", "_process", "_signum", "_waker")

    def __init__(self, signum: int, loop: asyncio.AbstractEventLoop | None) -> None:
        self._signum = signum
        self._loop = loop
        self._process = os.getpid()
        self._is_closed = False
        # Signals that came since the last dump was begun.
        self._asked = 0
        try:
            previous = signal.signal(signum, self._handle)
        except ValueError:
            fix = "only there does Python handle signals"
            raise RuntimeError(f"dump_on_signal() must be called in the main thread: {fix}") from None
        # None is a handler that was not installed by Python, and cannot be put back by it.
        self._previous: Any = signal.SIG_DFL if previous is None else previous
        self._waker = _Waker.install()

    def __repr__(self) -> str:
        return f"<SignalDump {signal_name(self._signum)}{' closed' if self._is_closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Put back the handler that was there before. It may be called more than once.

        If somebody else has installed one in the meantime, that one stays.

        Raises:
            RuntimeError: This is not the main thread.
        """
        if self._is_closed:
            return
        try:
            if signal.getsignal(self._signum) == self._handle:
                signal.signal(self._signum, self._earlier())
            if self._waker is not None:
                self._waker.close()
        except ValueError:
            raise RuntimeError("a SignalDump must be closed in the main thread, where it was installed") from None
        self._is_closed = True

    def _earlier(self) -> Any:
        """Return the handler that was there before, and before those of ours that were closed in the meantime."""
        earlier = self._previous
        while isinstance(dump := getattr(earlier, "__self__", None), SignalDump) and dump._is_closed:
            earlier = dump._previous
        return earlier

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        # It has interrupted anything, so that no lock may be taken; and another signal may interrupt this. That one is
        # not lost, but two dumps must not be mixed up.
        self._asked += 1
        if self._asked > 1:
            return
        try:
            while self._asked:
                _write("\n".join(self._text(frame)).encode(errors="backslashreplace"))
                # Python runs no handler within this line.
                self._asked = 1 if self._asked > 1 else 0
        finally:
            self._asked = 0

    def _text(self, frame: FrameType | None) -> Iterator[str]:
        at = time.strftime("%Y-%m-%d %H:%M:%S %z")
        yield f"===== process {os.getpid()} at {at}, on {signal_name(self._signum)} ====="
        try:
            yield self._tasks()
            yield from _threads(frame)
        except (Exception, CancelledError) as error:  # a last resort: what it looks at is in any state
            yield f"the dump failed with {type_name(error)}"
        yield "===== end of the dump =====\n"

    def _tasks(self) -> str:
        if os.getpid() != self._process:
            return f"forked from process {self._process}, whose event loop does not run here"
        loop = self._loop or asyncio._get_running_loop()
        if loop is None:
            return "no event loop is running in the main thread"
        # One that runs in another thread has to look for itself. If it is blocked, its tasks stand still.
        return ask(loop, lambda: str(snapshot(loop))) or str(snapshot(loop))


class _Waker:
    """Has a signal wake the loop that runs in this thread.

    Python runs a handler between two bytecodes, and there are none while a loop sleeps in the system. Mostly the signal
    ends that sleep, but not if it comes just before, or in another thread. What is written into a pipe that the loop
    reads is always in time. The pipe is our own, since that of the loop may be closed by then, and its number be that
    of another file.
    """

    __slots__ = ("_loop", "_reader", "_writer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        loop.add_reader(self._reader, os.read, self._reader, 4096)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    @classmethod
    def install(cls) -> _Waker | None:
        """Return one, if there is a loop that nothing wakes yet: uvloop, `run` and ``add_signal_handler`` do."""
        loop = asyncio._get_running_loop()
        present = signal.set_wakeup_fd(-1)
        if present != -1:
            _put_back(present)
            return None
        return None if loop is None else cls(loop)

    def close(self) -> None:
        present = signal.set_wakeup_fd(-1)
        if present != self._writer:
            _put_back(present)
        self._loop.remove_reader(self._reader)
        os.close(self._reader)
        os.close(self._writer)


def _put_back(fd: int) -> None:
    # Whether it was to warn is not told. A pipe that is full wakes the loop all the same.
    signal.set_wakeup_fd(fd, warn_on_full_buffer=False)


def _threads(frame: FrameType | None) -> Iterator[str]:
    """Say where the main thread was interrupted, and where other threads are in the user's code."""
    yield ""
    yield "main thread"
    yield from _stack(frame, innermost=True)
    # Not by threading.enumerate(), which takes a lock.
    threads: dict[int, threading.Thread] = getattr(threading, "_active", {})
    for ident, other in sys._current_frames().items():
        lines = [] if ident == threading.get_ident() else [*_stack(other, innermost=False)]
        if lines:
            thread = threads.get(ident)
            yield ""
            yield f"thread {ident if thread is None else repr(plain(thread.name))}"
            yield from lines


def _stack(frame: FrameType | None, *, innermost: bool) -> Iterator[str]:
    """Yield the lines of user code that *frame* and those that called it are at, the outermost first."""
    spots: list[tuple[CodeType, int]] = []
    while frame is not None:
        if is_user_code(frame.f_code.co_filename) or (innermost and not spots):
            spots.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    if len(spots) > _LINES:
        yield f"  ... {len(spots) - _LINES} more"
    for spot in reversed(spots[:_LINES]):
        yield f"  {printable(str(Place.from_code(*spot)))}"


def _write(data: bytes) -> None:
    """Write all of *data* to stderr, or as much of it as somebody reads."""
    left = memoryview(data)
    try:
        while left:
            try:
                left = left[os.write(_STDERR, left) :]
            except BlockingIOError:
                # It is a terminal, say, that some program has made non-blocking.
                if not select.select([], [_STDERR], [], _PATIENCE)[1]:
                    return
    except (OSError, ValueError):
        pass  # it is closed
