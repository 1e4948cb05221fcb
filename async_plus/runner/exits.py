"""The ways a process ends at once."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable

__all__ = ["WOULD_NOT_STOP", "exit_at_once", "signalled"]

# EX_SOFTWARE, which is no code that a shell, Python or a signal would give.
WOULD_NOT_STOP = 70

# Seconds for the last words. A log may be what the process hangs on: a full pipe, a lock that the blocked thread holds.
_LAST_WORDS = 2.0


def signalled(signum: int) -> int:
    """Return the exit code that shells give for a process which a signal has killed."""
    return 128 + signum


def exit_at_once(code: int, last_words: Callable[[], object]) -> None:
    """Say the *last_words*, flush all logs, and end the process with *code*, whatever else is running."""

    def finish() -> None:
        try:
            last_words()
        finally:
            _flush()

    # In a thread, so that what hangs there is not waited for.
    finisher = threading.Thread(target=finish, name="async_plus exit", daemon=True)
    with contextlib.suppress(RuntimeError):  # no more threads can be started
        finisher.start()
        finisher.join(_LAST_WORDS)
    os._exit(code)


def _flush() -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # There may be none (pythonw), it may be closed, and nobody may be reading it any more.
        with contextlib.suppress(Exception):
            stream.flush()
