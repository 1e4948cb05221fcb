"""A restart storm: 10,000 services fail together. How long does the loop do nothing else?

    python -m benchmarks.storm                      # without and with random_shift, on each loop there is
    python -m benchmarks.storm --services 1000

There is no budget and no peer: what counts is how much `random_shift` flattens it. A task that wakes every 10 ms notes
by how much it is late; the worst lateness from the failure until all services run again is the lag.

The failures are reported as always, once to a log that formats each record and writes it nowhere, and once to one that
is switched off: a storm that is written down takes much longer for that than for all the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from async_plus import supervised, task_scope
from benchmarks.measure import LOOPS

__all__ = ["Storm", "storm", "storms"]

_TICK = 0.01
_DELAY = 1.0


class _Formatting(logging.Handler):
    """It does what a log costs, and keeps nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        self.format(record)


async def storm(services: int, random_shift: float) -> tuple[float, float]:
    """Have so many services fail together, and return the worst lag of the loop at the failure, and at the restart."""
    loop = asyncio.get_running_loop()
    fall, all_back = asyncio.Event(), asyncio.Event()
    begun, restarting = 0, float("inf")

    @supervised(delays=[_DELAY], random_shift=random_shift)
    async def service() -> None:
        nonlocal begun, restarting
        begun += 1
        if begun == services + 1:
            restarting = loop.time()
        if begun == 2 * services:
            all_back.set()
        if begun <= services:
            await fall.wait()
            raise ConnectionError("the broker is gone")
        await asyncio.Event().wait()

    lags: list[tuple[float, float]] = []

    async def tick() -> None:
        due = loop.time()
        while True:
            due = max(due, loop.time()) + _TICK
            await asyncio.sleep(due - loop.time())
            lags.append((due, loop.time() - due))

    async with task_scope() as scope:
        for _ in range(services):
            scope.launch(service())
        await asyncio.sleep(_DELAY)
        gc.collect()
        scope.launch(tick())
        await asyncio.sleep(10 * _TICK)
        lags.clear()
        fall.set()
        await all_back.wait()
        await asyncio.sleep(10 * _TICK)
        scope.cancel()
    at_failure = max((lag for due, lag in lags if due < restarting), default=0.0)
    return at_failure, max((lag for due, lag in lags if due >= restarting), default=0.0)


@dataclass(frozen=True, slots=True)
class Storm:
    """The worst lags of a loop, in seconds."""

    loop: str
    log: str
    services: int
    random_shift: float
    failure: float
    restart: float


def storms(services: int, rounds: int) -> Iterator[Storm]:
    """Yield the lags without and with a shift, with the log on and off, on each loop there is; the best of *rounds*."""
    logger = logging.getLogger("async_plus")
    handler = _Formatting()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        for loop, log, random_shift in itertools.product(("default", "uvloop"), ("on", "off"), (0.0, 1.0)):
            if loop not in LOOPS:
                continue
            logger.disabled = log == "off"
            lags: list[tuple[float, float]] = []
            for _ in range(rounds):
                with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
                    lags.append(runner.run(storm(services, random_shift)))
            # Noise only ever adds.
            failure, restart = (min(some) for some in zip(*lags, strict=True))
            yield Storm(loop, log, services, random_shift, failure, restart)
    finally:
        logger.removeHandler(handler)
        logger.propagate, logger.disabled = propagate, False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the storms, and print their lags."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description="Measure a storm of restarts.")
    parser.add_argument("--services", type=int, default=10_000, metavar="N", help="how many fail (default 10000)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of which the best one counts (default 3)")
    options = parser.parse_args(arguments)

    print(f"{options.services:,} services, delays=[{_DELAY:g}]: worst lag of the loop in ms")
    print(f"{'loop':10} {'log':5} {'random_shift':>12} {'failure':>9} {'restart':>9}")
    for one in storms(options.services, options.rounds):
        failure, restart = one.failure * 1000, one.restart * 1000
        print(f"{one.loop:10} {one.log:5} {one.random_shift:12g} {failure:9.0f} {restart:9.0f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
