"""Programs for `run`, in this process and in others."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap

import pytest
from loops import uvloop

# Of a program in a process of its own: the argument by which `run` and asyncio.Runner make the loop.
FACTORIES = {"default": "loop_factory=None"}
if uvloop is not None:
    FACTORIES["uvloop"] = "loop_factory=__import__('uvloop').new_event_loop"
each_loop_of_programs = pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)

TERM, INT = signal.SIGTERM, signal.SIGINT


def tell_to_stop(signum=TERM):
    """Send a signal to this process; its handler runs before the next line."""
    os.kill(os.getpid(), signum)


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


def dump_of(program):
    """Read one dump of *program*, to its end."""
    lines = []
    while not lines or lines[-1] != "===== end of the dump =====":
        line = program.process.stderr.readline()
        assert line, lines
        lines.append(line.removesuffix("\n"))
    return lines


def said(lines):
    """What a dump says, without the numbers that differ each time."""
    first = re.sub(r"process \d+ at [-0-9]+ [:0-9]+ [-+]\d+,", "process N at T,", lines[0])
    return [first, *(re.sub(r":\d+ in", ":N in", line) for line in lines[1:])]
