"""What other tools show of the hang in recipes/find_the_hang.py, for docs/howto/hang.rst.

    python docs/compare_hang.py print_stack     # Task.print_stack() of each task
    python docs/compare_hang.py all_tasks       # asyncio.all_tasks()
    python docs/compare_hang.py aiomonitor      # its console: ps, and where for each task (pip install aiomonitor)

The program is the recipe as it is, run by asyncio alone. tests/test_find_the_hang.py compares the first two with the
page.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import pty
import re
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).parent.parent / "recipes" / "find_the_hang.py"

NAMES = ("Berlin to Paris", "Paris to Berlin", "pack orders")


def hang(look: Callable[[Sequence[asyncio.Task[Any]]], None], watch: Callable[[], object] = int) -> None:
    """Run the recipe until it hangs, with *watch* called at the start, and *look* at its tasks."""

    async def main() -> None:
        watch()
        with contextlib.redirect_stdout(io.StringIO()):
            hanging = asyncio.create_task(runpy.run_path(str(RECIPE))["main"](), name="main")
            # Longer than it takes to book a truck.
            await asyncio.wait([hanging], timeout=0.5)
        look([task for name in NAMES for task in asyncio.all_tasks() if task.get_name() == name])
        hanging.cancel()
        await asyncio.wait([hanging])

    logging.disable()
    asyncio.run(main())


def print_stack() -> None:
    """Show what asyncio tells of the stack of a task."""

    def look(tasks: Sequence[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.print_stack(file=sys.stdout)

    hang(look)


def all_tasks() -> None:
    """Show what asyncio tells of a task."""

    def look(tasks: Sequence[asyncio.Task[Any]]) -> None:
        for task in tasks:
            print(task)

    hang(look)


def aiomonitor() -> None:
    """Show what aiomonitor tells of both."""
    import aiomonitor as monitor

    with contextlib.ExitStack() as stack:

        def watch() -> None:
            stack.enter_context(monitor.start_monitor(asyncio.get_running_loop(), hook_task_factory=True))

        def look(tasks: Sequence[asyncio.Task[Any]]) -> None:
            # It has a thread of its own, and looks from there.
            console(["ps", *(f"where {id(task)}" for task in tasks), "exit"])
            stack.close()

        hang(look, watch)


def console(commands: Sequence[str]) -> None:
    """Type *commands* into the console of aiomonitor as one does, and print what it answers."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "aiomonitor.cli"]
    client = subprocess.Popen(  # noqa: S603  # of nothing that came from outside
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "dumb"}
    )
    said = bytearray()

    def read() -> None:
        while True:
            try:
                said.extend(os.read(ours, 4096))
            except OSError:
                return

    threading.Thread(target=read, daemon=True).start()
    for command in commands:
        time.sleep(2)
        os.write(ours, f"{command}\n".encode())
    client.wait()
    os.close(theirs)
    print(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode(errors="replace")))


if __name__ == "__main__":
    {"print_stack": print_stack, "all_tasks": all_tasks, "aiomonitor": aiomonitor}[sys.argv[1]]()
