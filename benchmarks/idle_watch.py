"""What `watch_loop` costs a program that does nothing: ``python -m benchmarks.idle_watch [SECONDS]``.

A share of one core, by the processor time of the process over real seconds. That of the same loop without a watch is
taken off. Exits with 1 if the budget is missed.
"""

from __future__ import annotations

import asyncio
import sys
import time

from async_plus import watch_loop
from benchmarks.measure import LOOPS

BUDGET = 0.002

# Before it is measured: imports, the first steps of the loop, the start of the thread.
_WARM_UP = 0.5

# Idle, a loop with eager tasks is no other one.
_LOOPS = {name: loop_factory for name, loop_factory in LOOPS.items() if name != "eager"}


async def _idle(seconds: float, *, watched: bool) -> float:
    watch = watch_loop() if watched else None
    await asyncio.sleep(_WARM_UP)
    real, used = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    share = (time.process_time() - used) / (time.perf_counter() - real)
    if watch is not None:
        watch.stop()
    return share


def main(seconds: float = 8.0) -> int:
    """Measure each loop for twice so many *seconds*, and return the exit status."""
    missed = False
    for name, loop_factory in _LOOPS.items():
        shares: list[float] = []
        for watched in (False, True):
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                shares.append(runner.run(_idle(seconds, watched=watched)))
        cost = shares[1] - shares[0]
        missed = missed or cost > BUDGET
        verdict = "MISSED" if cost > BUDGET else "ok"
        print(f"watch_loop, idle on {name:8} {cost:8.3%} of a core   budget {BUDGET:.1%}  {verdict}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:2])))
