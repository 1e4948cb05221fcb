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
from collections.abc import Callable, Sequence

from async_plus import supervised, task_scope
from benchmarks.report import setting

__all__ = ["storm"]

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


def _loops() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"default": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:
        pass
    else:
        loops["uvloop"] = uvloop.new_event_loop
    return loops


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the storms, and print their lags."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description="Measure a storm of restarts.")
    parser.add_argument("--services", type=int, default=10_000, metavar="N", help="how many fail (default 10000)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of which the best one counts (default 3)")
    options = parser.parse_args(arguments)

    logger = logging.getLogger("async_plus")
    logger.propagate = False
    logger.addHandler(_Formatting())

    print("  ".join(f"{name}: {value}" for name, value in setting().items()))
    print(f"{options.services:,} services, delays=[{_DELAY:g}]: worst lag of the loop in ms")
    print(f"{'loop':10} {'log':5} {'random_shift':>12} {'failure':>9} {'restart':>9}")
    for (name, loop_factory), log, random_shift in itertools.product(_loops().items(), ("on", "off"), (0.0, 1.0)):
        logger.disabled = log == "off"
        rounds = []
        for _ in range(options.rounds):
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                rounds.append(runner.run(storm(options.services, random_shift)))
        # Noise only ever adds.
        failure, restart = (min(lags) * 1000 for lags in zip(*rounds, strict=True))
        print(f"{name:10} {log:5} {random_shift:12g} {failure:9.0f} {restart:9.0f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
