"""The quickstart for minutes, under load and with faults: memory and open files must stay flat.

    python -m tests.chaos.soak --minutes 10

Many consumers follow the flaky feed of ``recipes/quickstart.py``. Meanwhile connections are killed, the loop is
blocked, the process is stopped and continued, and the wall clock jumps by hours. It needs the ``/proc`` of Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import gc
import logging
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import freezegun
import freezegun.api

from async_plus import Event, run, subscribe, task_scope
from recipes.quickstart import FlakyFeed, follow_all

# How many times a minute each fault strikes.
FAULTS = {"kill": 120, "block": 12, "stop": 6, "step": 10}

# Seconds for which the loop is blocked and the process is stopped; each is a multiple of what is watched for.
BLOCK, STOP, WATCH = 0.4, 0.5, 0.1

# What memory and files may grow by, between the second quarter and the last one. Shorter runs tell nothing of that.
MORE_MEMORY, MORE_FILES = 0.05, 0.25
LONG = 60


@dataclass
class Soak:
    """One run, and what is measured in it."""

    feeds: int
    seconds: float
    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    # Of memory in bytes, and of open files; one a second or so.
    memory: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    prices: Counter[str] = field(default_factory=Counter)
    tasks_left: int = 0
    errors: list[str] = field(default_factory=list)

    async def main(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.errors.append(context["message"]))
        unsubscribe = subscribe(self._count)
        feed = FlakyFeed(self.seed)
        async with task_scope(name="connections of the feed") as connections:

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                def close(_: object) -> None:
                    writer.close()
                    self.writers.discard(writer)

                self.writers.add(writer)
                try:
                    connections.launch(feed.serve(reader, writer)).add_done_callback(close)
                except RuntimeError:
                    close(None)

            server = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=4 * self.feeds)
            port = server.sockets[0].getsockname()[1]
            async with task_scope(name="faults") as faults:
                for what, times in FAULTS.items():
                    faults.launch(self._strike(what, min(60 / times, self.seconds / 4)))
                faults.launch(self._measure())
                symbols = [f"S{number}" for number in range(self.feeds)]
                self.prices = await follow_all(symbols, port, self.seconds)
            server.close()
        unsubscribe()
        self.tasks_left = len(asyncio.all_tasks()) - 1

    def _count(self, event: Event) -> None:
        self.events[type(event).__name__] += 1

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(min(1, self.seconds / 40))
            gc.collect()
            self.memory.append(memory())
            self.files.append(len(os.listdir("/proc/self/fd")))

    async def _strike(self, what: str, gap: float) -> None:
        dice = random.Random(f"{self.seed} {what}")
        while True:
            await asyncio.sleep(gap * dice.uniform(0.2, 1.8))
            self.faults[what] += 1
            if what == "kill" and self.writers:
                dice.choice([*self.writers]).transport.abort()
            elif what == "block":
                time.sleep(BLOCK)  # noqa: ASYNC251  # that is the fault
            elif what == "stop":
                await self._stop_and_continue()
            elif what == "step":
                with clock_stepped(dice.uniform(-6, 6)):
                    await asyncio.sleep(1)

    async def _stop_and_continue(self) -> None:
        pid = os.getpid()
        stopper = subprocess.Popen(["sh", "-c", f"kill -STOP {pid}; sleep {STOP}; kill -CONT {pid}"])  # noqa: ASYNC220
        while stopper.poll() is None:
            await asyncio.sleep(0.05)

    def problems(self) -> list[str]:
        """Say what did not stay as it should."""
        found = [*self.errors]
        if self.tasks_left:
            found.append(f"{self.tasks_left} tasks left")
        if self.seconds < LONG:
            return found
        idle = [symbol for symbol, count in self.prices.items() if not count]
        if idle:
            found.append(f"no prices of {', '.join(idle)}")
        for what, samples, more in (("memory", self.memory, MORE_MEMORY), ("files", self.files, MORE_FILES)):
            before, after = quarters(samples)
            if after > before * (1 + more):
                found.append(f"{what} grew from {before:.0f} to {after:.0f}")
        return found

    def summary(self) -> str:
        """Tell all in one line."""
        memory, files = quarters(self.memory), quarters(self.files)
        return (
            f"soak: {self.seconds / 60:.1f} min, {self.feeds} feeds, {self.prices.total():,} prices; "
            f"faults: {_listed(self.faults)}; reported: {_listed(self.events)}; "
            f"memory {memory[0] / 2**20:.1f} -> {memory[1] / 2**20:.1f} MiB, files {files[0]:.0f} -> {files[1]:.0f}, "
            f"tasks left {self.tasks_left}: {'; '.join(self.problems()) or 'all is well'}"
        )


def memory() -> int:
    """Return what of this process is in memory, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def quarters(samples: list[int]) -> tuple[float, float]:
    """Return what is typical of the second quarter, when all has warmed up, and of the last one."""
    quarter = len(samples) // 4
    return statistics.median(samples[quarter : 2 * quarter]), statistics.median(samples[3 * quarter :])


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


@contextlib.contextmanager
def clock_stepped(hours: float) -> Iterator[None]:
    """Set the wall clock, as somebody does with ``date``, or NTP. No such step moves the monotonic clock."""
    freezer = freezegun.freeze_time(datetime.datetime.now() + datetime.timedelta(hours=hours), tick=True)
    monotonic = time.monotonic, time.monotonic_ns, time.perf_counter, time.perf_counter_ns
    freezer.start()
    time.monotonic, time.monotonic_ns, time.perf_counter, time.perf_counter_ns = monotonic
    try:
        yield
    finally:
        freezer.stop()


def main(argv: list[str] | None = None) -> int:
    """Run it, print the summary, and return 1 if something grew or was left."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description="The quickstart, with faults.")
    parser.add_argument("--minutes", type=float, default=10, help="how long (default: %(default)s)")
    parser.add_argument("--feeds", type=int, default=40, help="how many consumers (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="which faults, and when (default: %(default)s)")
    arguments = parser.parse_args(argv)
    # Written, and thrown away: what the log costs is part of it.
    with open(os.devnull, "w") as nowhere:
        logging.basicConfig(level=logging.DEBUG, stream=nowhere, format="%(asctime)s %(levelname)s %(message)s")
        soak = Soak(arguments.feeds, arguments.minutes * 60, arguments.seed)
        run(soak.main, watch_loop=WATCH)
    print(soak.summary())
    return int(bool(soak.problems()))


if __name__ == "__main__":
    sys.exit(main())
