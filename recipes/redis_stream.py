"""Workers that share a Redis stream: each job is handled at least once, whatever happens to them or the server.

    python recipes/redis_stream.py redis://localhost

A job belongs to the worker that it was given to until that one acknowledges it. A worker whose connection broke asks
for its own first; those of a worker that never came back are taken over by the others. A server that hangs raises
nothing, and is found by the heartbeat.

The program adds a job every half a second for two workers. While it runs, kill their connections, or stop the server:

    redis-cli CLIENT KILL TYPE normal
    kill -STOP $(pidof redis-server); sleep 15; kill -CONT $(pidof redis-server)
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from async_plus import heartbeat, ready, run, supervised, task_scope

log = logging.getLogger("redis_stream")

STREAM, GROUP, FAILED = "jobs", "workers", "jobs:failed"

# How many jobs a worker takes at a time, and how many seconds it waits for one: less than its heartbeat.
BATCH = 10
WAIT = 2.0

# When a job was given out so many seconds ago, its worker is thought to be gone for good. A worker that is only slow
# would see its job handled twice, so this is much longer than a batch ever takes.
ABANDONED = 60.0

# What passes by itself: the network, and the server.
TROUBLE = (RedisError, OSError)


@dataclass(frozen=True, slots=True)
class Job:
    id: str
    fields: dict[str, str]


Handle: TypeAlias = Callable[[Job], Awaitable[object]]


def connect(url: str, name: str) -> Any:
    # No timeout, because one clock is enough for it all: connecting, waiting for jobs, and the handler. No retries
    # behind our back, because supervised makes them, and says so. (What commands return differs by protocol.)
    client: Any = Redis
    return client.from_url(
        url,
        client_name=name,
        decode_responses=True,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=None,
        socket_timeout=None,
    )


# A worker: this is what a service with async_plus looks like.


@supervised(delays=[0, 0.5, 1, 5, 30], random_shift=0.2, on=TROUBLE, heartbeat=10, ready=True)
async def work(url: str, worker: str, handle: Handle) -> None:
    """Have the jobs of the stream handled, together with workers of other names, for ever."""
    async with connect(url, worker) as redis:
        await make_group(redis)
        ready()
        # What it was given before. It is still there if the connection broke before that was acknowledged, or before
        # it arrived here at all.
        while jobs := await take(redis, worker, "0"):
            await handle_all(redis, jobs, handle)
        while True:
            await handle_all(redis, await take_over(redis, worker), handle)
            await handle_all(redis, await take(redis, worker, ">"), handle)


async def make_group(redis: Any) -> None:
    try:
        # From the very first job on: some may have been added before.
        await redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except ResponseError as exc:
        if not str(exc).startswith("BUSYGROUP"):
            raise


async def take(redis: Any, worker: str, after: str) -> list[Job]:
    """Take the next jobs: new ones (after ">"), or those that the *worker* has already (after "0")."""
    answer = await redis.xreadgroup(GROUP, worker, {STREAM: after}, count=BATCH, block=int(WAIT * 1000))
    heartbeat()
    return [Job(key, fields) for _, entries in answer for key, fields in entries]


async def take_over(redis: Any, worker: str) -> list[Job]:
    """Take jobs of workers that are gone."""
    _, entries, *_ = await redis.xautoclaim(STREAM, GROUP, worker, int(ABANDONED * 1000), count=BATCH)
    heartbeat()
    return [Job(key, fields) for key, fields in entries]


async def handle_all(redis: Any, jobs: list[Job], handle: Handle) -> None:
    for job in jobs:
        async with redis.pipeline(transaction=True) as end:
            try:
                await handle(job)
            except TROUBLE:
                raise
            except Exception:
                # It would fail again, and keep the others waiting.
                log.exception("job %s failed, and is put aside", job.id)
                end.xadd(FAILED, job.fields)
            # The stream is as long as there is work to do, since no other group reads it.
            await end.xack(STREAM, GROUP, job.id).xdel(STREAM, job.id).execute()
        heartbeat()


# What it is for.


class Resizer:
    def __init__(self) -> None:
        self.handled = 0

    async def handle(self, job: Job) -> None:
        # It may be done twice: if the server dies before it knows that it was done, it is. So it should be something
        # that can be, or that remembers the number of the job.
        await asyncio.sleep(0.1)
        self.handled += 1
        log.info("%s is resized", job.fields["picture"])


@supervised(delays=[1, 5], on=TROUBLE)
async def add_jobs(url: str) -> None:
    async with connect(url, "camera") as redis:
        number = 0
        while True:
            number += 1
            async with asyncio.timeout(5):
                await redis.xadd(STREAM, {"picture": f"{number}.jpeg"})
            await asyncio.sleep(0.5)


async def main(url: str, seconds: float | None = None) -> None:
    resizer = Resizer()
    async with task_scope(name="jobs") as scope:
        for number in (1, 2):
            # The same names after a restart of the program: they find what they had. On several machines, add those'.
            scope.launch(work(url, f"worker-{number}", resizer.handle))
        scope.launch(add_jobs(url))
        try:
            await scope.wait(timeout=seconds)
        except TimeoutError:
            log.info("%g seconds are over: %d jobs handled", seconds, resizer.handled)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Workers that share a Redis stream.")
    parser.add_argument("url", help="where the server is: redis://host:port")
    parser.add_argument("--seconds", type=float, help="how long to run (default: until it is stopped)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
    run(main, arguments.url, arguments.seconds)
