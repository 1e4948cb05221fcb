"""Programs for `run`, in this process and in others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from loops import factories

each_loop = pytest.mark.parametrize("loop_factory", factories(virtual=False).values(), ids=factories(virtual=False))

TERM, INT = signal.SIGTERM, signal.SIGINT


def tell_to_stop(signum=TERM):
    """Send a signal to this process; its handler runs before the next line."""
    os.kill(os.getpid(), signum)



@pytest.fixture
def exits(monkeypatch):
    """The codes that this process would have exited with."""
    codes = []

    def note(code):
        codes.append(code)

    monkeypatch.setattr(os, "_exit", note)
    # It would close the handlers of pytest itself.
    monkeypatch.setattr("logging.shutdown", lambda: codes.append("flushed"))
    return codes


PRELUDE = """
import asyncio, logging, os, signal, sys, time
import async_plus.runner.lifecycle
from async_plus import *

logging.basicConfig(format="%(levelname)s %(message)s")

def report():
    os.write(1, b"here\\n")     # past what is printed, and not written yet

def block():
    while True:
        # Again and again: a signal that comes just before a sleep does not end it, and Python handles none until then.
        time.sleep(0.01)

"""


class Program:
    """A program in a process of its own, which reports "here" when it wants to be signalled."""

    def __init__(self, source, **env):
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(source)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Buffered, so that a flush at the end is needed.
            env={**os.environ, "PYTHONUNBUFFERED": "", **env},
        )

    def wait_until_here(self):
        first = self.process.stdout.readline()
        assert first == "here\n", first + self.process.stderr.read()

    def end(self):
        """Return the exit code and what it printed and logged, all that came after "here"."""
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out.splitlines(), err.splitlines()

    def signalled(self, *signums):
        """Send the signals, one whenever it has reported, and return how it ended."""
        for signum in signums:
            self.wait_until_here()
            self.process.send_signal(signum)
        return self.end()


@pytest.fixture
def start():
    """Starts programs, none of which outlives the test."""
    programs = []

    def start(source, **env):
        programs.append(Program(source, **env))
        return programs[-1]

    yield start
    for program in programs:
        with program.process as process:
            if process.poll() is None:
                process.kill()
