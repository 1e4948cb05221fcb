"""The service manager: systemd's protocol, which others speak as well.

A service of ``Type=notify`` counts as started when it says so, and with ``WatchdogSec=`` it is killed when it falls
silent. Each message is a datagram to a socket that the manager names in the environment. (It stays there: a child
process may have something to say, too.)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Generator

from async_plus import events, stacks
from async_plus.engine.per_loop import per_loop
from async_plus.supervision.vitals import Vitals

__all__ = ["Notifier", "notifying"]

# In so many rounds of the loop in a row every task must be parked for it to be idle. A single one may just lie between
# the end of a task and the callback that tells of it.
_IDLE_ROUNDS = 3

# After so many rounds it counts as idle in any case: some task may never wait.
_MOST_ROUNDS = 1000

# Seconds until a manager that was busy is told again that the program is ready.
_AGAIN = 0.5

_Tell = Callable[[bytes], object]


class Notifier:
    """Tells what the service manager wants to know about the program that *loop* runs.

    Args:
        tell: Sends a message. It raises an OSError rather than wait.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, tell: _Tell) -> None:
        self._loop = loop
        self._tell = tell
        self._vitals = per_loop(loop, Vitals)
        self._is_stopping = self._has_failed = False

    def watch(self, interval: float | None) -> None:
        """Tell when the program is ready, and every *interval* seconds that it lives."""
        self._loop.call_soon(self._look, 0, 0)
        if interval is not None:
            self._loop.call_later(interval, self._live, interval)

    def stopping(self) -> None:
        """Tell that the program stops. It may be called in a signal handler."""
        if not self._is_stopping:
            self._is_stopping = True
            self._send(b"STOPPING=1")

    def _look(self, rounds: int, idle: int) -> None:
        """Look whether main has run as far as it can without waiting: by then it has declared what must get ready."""
        tasks = asyncio.all_tasks(self._loop)
        idle = idle + 1 if all(stacks.chain(task).state == "parked" for task in tasks) else 0
        if idle < _IDLE_ROUNDS and rounds < _MOST_ROUNDS:
            self._loop.call_soon(self._look, rounds + 1, idle)
            return
        self._vitals.on_ready = self._tell_if_ready
        self._tell_if_ready()

    def _tell_if_ready(self) -> None:
        if not self._vitals.unready():
            self._vitals.on_ready = None
            self._tell_ready()

    def _tell_ready(self) -> None:
        # What gets lost otherwise comes again, or is no harm. This one the manager would wait for, and then end us.
        if not self._is_stopping and not self._send(b"READY=1"):
            self._loop.call_later(_AGAIN, self._tell_ready)

    def _live(self, interval: float) -> None:
        self._loop.call_later(interval, self._live, interval)
        if not self._vitals.overdue():
            self._send(b"WATCHDOG=1")

    def _send(self, message: bytes) -> bool:
        """Send *message*, and return False if the manager has too much to read already."""
        try:
            self._tell(message)
        except OSError as exc:
            if not self._has_failed:
                self._has_failed = True
                event = events.NotifyFailed(message=message.decode(), exception=exc)
                # Not here, since a signal handler must not log; and not at all if the loop is closed.
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(events.emit, event)
            return not isinstance(exc, BlockingIOError)
        return True


@contextlib.contextmanager
def notifying(loop: asyncio.AbstractEventLoop) -> Generator[Notifier, None, None]:
    """Tell the service manager of the program that *loop* runs inside of the block, if there is a manager."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address or sys.platform == "win32":
        yield Notifier(loop, lambda message: None)
        return
    # Only here, where somebody needs it.
    import socket

    if address.startswith("@"):
        # The names of abstract sockets begin with a zero byte.
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        notifier = Notifier(loop, lambda message: manager.sendto(message, address))
        notifier.watch(_interval())
        yield notifier


def _interval() -> float | None:
    """Return after how many seconds to tell that the program lives: half of what the manager allows."""
    allowed, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not allowed.isdecimal() or int(allowed) == 0:
        return None
    # A process that we were started by may have been meant.
    return int(allowed) / 2_000_000 if process in (None, str(os.getpid())) else None
