"""The handlers of SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Generator
from types import FrameType

from async_plus.diagnostics.dump import SignalDump
from async_plus.runner.options import STOPPING

__all__ = ["dumping", "handling", "may_handle", "waking"]


def may_handle() -> bool:
    """Tell whether this is the thread in which Python handles signals."""
    if threading.current_thread() is not threading.main_thread():
        return False
    try:
        signal.signal(signal.SIGINT, signal.getsignal(signal.SIGINT) or signal.SIG_DFL)
    except ValueError:
        # The main thread of another interpreter than the first one (gh-91880).
        return False
    return True


@contextlib.contextmanager
def handling(handle: Callable[[int], None]) -> Generator[None, None, None]:
    """Have *handle* called with the number of each signal, inside of the block, whatever the loop is doing.

    Not by the loop's own ``add_signal_handler``: that waits until the loop comes round, and one that is blocked never
    does.
    """
    process = os.getpid()
    # None is a handler that was not installed by Python, and cannot be put back by it.
    earlier = {signum: signal.getsignal(signum) or signal.SIG_DFL for signum in STOPPING}

    def on_signal(signum: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            handle(signum)
            return
        # A forked child has inherited this handler, but not the loop:
        #
        #     worker = multiprocessing.get_context("fork").Process(target=work)
        #     worker.terminate()
        signal.signal(signum, earlier[signal.Signals(signum)])
        os.kill(os.getpid(), signum)

    for signum, handler in earlier.items():
        # What a shell starts in the background ignores the Ctrl-C that is meant for the program in front.
        if signum != signal.SIGINT or handler is not signal.SIG_IGN:
            signal.signal(signum, on_signal)
    wakeup = signal.set_wakeup_fd(-1)
    try:
        yield
    finally:
        # A loop that had signal handlers of its own has put the defaults in the place of all this when it was closed.
        signal.set_wakeup_fd(wakeup)
        for signum, handler in earlier.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def dumping(signum: int | None, loop: asyncio.AbstractEventLoop) -> Generator[None, None, None]:
    """Have *signum* write what *loop* is doing, inside of the block, unless the program handles it in its own way."""
    if signum is None or signal.getsignal(signum) is not signal.SIG_DFL:
        yield
        return
    with SignalDump(signum, loop):
        yield


@contextlib.contextmanager
def waking(loop: asyncio.AbstractEventLoop) -> Generator[None, None, None]:
    """Have signals wake *loop*.

    Python runs a handler between two bytecodes, and there are none while a loop sleeps in the system. Mostly the signal
    ends that sleep, but not if it comes just before, or in another thread. What it writes into the loop's own pipe is
    always in time. uvloop, which does not show its pipe, does this by itself.
    """
    pipe = getattr(loop, "_csock", None)
    if pipe is not None:
        signal.set_wakeup_fd(pipe.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        # Before the loop closes its pipe, whose number may go to another file.
        signal.set_wakeup_fd(-1)
