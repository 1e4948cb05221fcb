"""What docs/howto/sentry.rst says of Sentry, in processes of their own: its SDK patches the standard library."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "howto" / "sentry.rst"

OFFLINE = """
import socket

def refuse(self, address):
    raise AssertionError(f"a connection to {address}")

socket.socket.connect = refuse
"""

RUN_PAGE = """
import sys
from pathlib import Path

import freezegun
from pages import run_page

with freezegun.freeze_time("1970-01-02"):
    print(run_page(Path(sys.argv[1])))
"""

COLLECTING = """
import sentry_sdk
from sentry_sdk.transport import Transport

class Collecting(Transport):
    def capture_envelope(self, envelope):
        event = envelope.get_event()
        print(event["level"], [error["type"] for error in event.get("exception", {}).get("values", [])], flush=True)

sentry_sdk.init(dsn="https://key@sentry.example/1", transport=Collecting)
"""


def python(source, *arguments):
    """Run a program, and return its exit code, what it printed, and the last line of its log."""
    command = [sys.executable, "-c", OFFLINE + source, *map(str, arguments)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.splitlines(), (done.stderr.splitlines() or [""])[-1]


def test_the_page_shows_what_arrives(tmp_path):
    """Every block of it runs, with the real SDK and no connection."""
    page = tmp_path / "sentry.rst"
    page.write_text(PAGE.read_text().replace(".. no-run\n", "\n").replace(".. printed\n", ".. output\n"))

    assert python(RUN_PAGE, page) == (0, ["4"], "")


def test_a_main_that_fails_arrives_once():
    """By the hook for exceptions that end the program: nothing of ours reports what is raised to the caller."""
    program = """
        import asyncio
        from async_plus import run, task_scope

        async def main():
            async with task_scope():
                raise OSError("disk full")

        run(main)
    """

    assert python(COLLECTING + textwrap.dedent(program)) == (1, ["error ['OSError']"], "OSError: disk full")
