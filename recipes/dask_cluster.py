"""A job for many machines: its parts run on a Dask cluster, and one service owns them all.

    python recipes/dask_cluster.py                              # on two worker processes of its own
    python recipes/dask_cluster.py --address tcp://host:8786    # on the cluster of that scheduler

It counts the prime numbers below two million, in parts. The first error cancels the parts that are left, at the
scheduler too, and the service comes back for what is missing: no part is lost, and none is counted twice. Kill a worker
while it runs (kill -9, the log tells its process), and the sum will be right.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import dask.config
from distributed import Client, KilledWorker, LocalCluster

from async_plus import UnexpectedCancellation, heartbeat, result_of, run, supervised, try_gather

log = logging.getLogger("dask_cluster")

# Few of its functions tell their types.
new_client: Any = Client
new_cluster: Any = LocalCluster

Part: TypeAlias = tuple[int, int]

# What passes by itself: a worker that died, too often for Dask to try again; the network; a scheduler that was
# restarted, and cancelled all that it no longer knew.
TROUBLE = (KilledWorker, OSError, UnexpectedCancellation)


# What the workers do.


def count_primes(part: Part) -> int:
    return sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in range(*part))


# The service.


# A part that takes longer than the heartbeat counts as hung, and so does a cluster without any worker.
@supervised(delays=[0, 1, 5, 30], random_shift=0.2, on=TROUBLE, heartbeat=60)
async def count_all(address: str, parts: list[Part], counts: dict[Part, int]) -> None:
    """Have all *parts* counted, but those that are in *counts* already."""
    async with connect(address) as client:
        missing = [part for part in parts if part not in counts]
        log.info("%d parts to count", len(missing))
        # Not all at once: what is not with the scheduler needs no cancelling, and other jobs get their turn.
        await try_gather(*(count(client, part, counts) for part in missing), limit=8)


async def count(client: Any, part: Part, counts: dict[Part, int]) -> None:
    # Not pure: by default the same call would be the same future, and a restart would get the old error once more.
    future = client.submit(count_primes, part, pure=False)
    # Awaited by itself, a future of Dask runs on at the cluster when nobody waits any more.
    counts[part] = await result_of(future)
    heartbeat()


@asynccontextmanager
async def connect(address: str) -> AsyncGenerator[Any, None]:
    """Connect to a scheduler, with a client that works in this event loop."""
    async with new_client(address, asynchronous=True, set_as_default=False, timeout=10) as client:
        yield client


@asynccontextmanager
async def local_cluster() -> AsyncGenerator[str, None]:
    """Start two workers, and a scheduler for them."""
    # 15 s after a worker's death, Dask takes it away for good if it is not there at that moment: it may have died anew.
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"}):
        # Port 0 is any free one. Without an address, too, the scheduler serves something on a port, a fixed one.
        async with new_cluster(
            n_workers=2, threads_per_worker=1, processes=True, asynchronous=True, dashboard_address=":0"
        ) as cluster:
            log.info("workers: processes %s", ", ".join(str(nanny.pid) for nanny in cluster.workers.values()))
            yield cluster.scheduler_address


async def main(address: str | None, below: int) -> int:
    if address is None:
        async with local_cluster() as local:
            return await main(local, below)
    counts: dict[Part, int] = {}
    step = max(below // 100, 1)
    await count_all(address, [(start, min(start + step, below)) for start in range(2, below, step)], counts)
    total = sum(counts.values())
    log.info("%d prime numbers below %d", total, below)
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Prime numbers, counted on a Dask cluster.")
    parser.add_argument("--address", help="of a scheduler (default: a cluster of its own, on this machine)")
    parser.add_argument("--below", type=int, default=2_000_000, help="where to stop (default: %(default)s)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
    run(main, arguments.address, arguments.below)
