"""The workers on a stream in the recipes handle every job at least once, on a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections import Counter

import pytest
import redis
from programs import load, run_recipe
from servers import Redis, running

from async_plus import AttemptFailed, AttemptHung, supervised, task_scope
from async_plus.testing import record_events


@pytest.fixture(scope="module")
def server():
    with running(Redis) as server:
        yield server


@pytest.fixture
def recipe(server, monkeypatch):
    """The recipe, with its waits shortened, on a server with nothing in it."""
    with redis.Redis(port=server.port) as client:
        client.flushall()
    recipe = load("redis_stream")
    monkeypatch.setattr("random.random", lambda: 0.0)
    monkeypatch.setattr(recipe, "WAIT", 0.1)
    return recipe


class Jobs:
    """Who adds jobs, and what came of them."""

    def __init__(self, client):
        self._client = client
        self._added = []
        self.handled = Counter()

    async def add(self, count):
        """Add so many jobs, of which those count that the server knows of."""
        for _ in range(count):
            self._added.append(await self._client.xadd("jobs", {"picture": "1.jpeg"}))

    async def handle(self, job):
        self.handled[job.id] += 1

    async def wait_until_handled(self):
        while self.left() or await self._client.xlen("jobs"):
            await asyncio.sleep(0.01)

    def left(self):
        """Return the jobs that nobody has handled, though the server knew them."""
        return [key for key in self._added if key not in self.handled]

    async def kill_connections(self):
        """Close all connections but our own, and return how many there were."""
        return await self._client.client_kill_filter(_type="normal", skipme=True)


@contextlib.asynccontextmanager
async def jobs(recipe, server):
    """Jobs on a connection of their own."""
    async with recipe.connect(server.url, "test") as client:
        yield Jobs(client)


def count(events, kind):
    return sum(type(event) is kind for event in events)


async def test_no_job_is_lost_when_connections_are_killed(server, recipe):
    """CLIENT KILL, again and again, while two workers are at it and more jobs come."""
    with record_events() as events:
        async with jobs(recipe, server) as its, task_scope() as scope:
            for worker in "ab":
                scope.launch(recipe.work(server.url, worker, its.handle))
            # One that is killed between two commands is replaced in silence, by the pool of redis-py.
            while count(events, AttemptFailed) < 2:
                await its.add(20)
                await its.kill_connections()
                await its.add(20)
            await its.wait_until_handled()

            assert its.left() == []
            assert its.handled.total() >= len(its.handled) >= 40


async def test_a_job_whose_end_was_not_acknowledged_is_handled_again_and_first(server, recipe):
    """It may have been done, or in part: nobody knows. What its worker was given it gets again, before anything new."""
    order = []
    async with jobs(recipe, server) as its, task_scope() as scope:

        async def handle(job):
            await its.handle(job)
            order.append(job.id)
            if len(order) == 3:
                raise redis.ConnectionError("in the middle of it")

        await its.add(20)
        scope.launch(recipe.work(server.url, "a", handle))
        await its.wait_until_handled()

    assert sorted(its.handled.values()) == [1] * 19 + [2]
    assert order[2] == order[3]


@pytest.mark.parametrize("how", ["IN_ORDER", "AT_ONCE"])
async def test_the_workers_outlive_a_restart_of_the_server(server, recipe, how):
    """In order or by a SIGKILL: what was added is in its file (AOF), as is what each worker had not acknowledged."""
    with record_events() as events:
        async with jobs(recipe, server) as its, task_scope() as scope:
            for worker in "ab":
                scope.launch(recipe.work(server.url, worker, its.handle))
            adding = asyncio.ensure_future(its.add(1_000_000))
            while len(its.handled) < 50:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(server.end, getattr(server, how))
            # Back at once, it might never be missed: a client that had nothing to say meanwhile just connects again.
            while count(events, AttemptFailed) < 2:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(server.start)
            with pytest.raises(redis.ConnectionError):
                await adding
            await its.add(20)
            await its.wait_until_handled()

            assert its.left() == []

    assert count(events, AttemptFailed) >= 2


async def test_a_server_that_hangs_is_found_by_the_heartbeat(server, recipe):
    """It is stopped, and keeps its connections: nothing fails, only the beats are missing. Later all goes on."""
    impatient = supervised(heartbeat=0.5, delays=[0.1], on=recipe.TROUBLE, ready=True, name="worker")
    with record_events() as events:
        async with jobs(recipe, server) as its, task_scope() as scope:
            await its.add(20)
            scope.launch(impatient(recipe.work.__wrapped__)(server.url, "a", its.handle))
            await its.wait_until_handled()
            server.process.send_signal(signal.SIGSTOP)
            try:
                # The second time it hangs in another place: connected by the kernel, and greeted by nobody.
                while count(events, AttemptHung) < 2:
                    await asyncio.sleep(0.01)
            finally:
                server.process.send_signal(signal.SIGCONT)
            await its.add(20)
            await its.wait_until_handled()

            assert its.left() == []

    hung = next(event for event in events if type(event) is AttemptHung)
    assert f"peer 127.0.0.1:{server.port}" in str(hung.parked), "where it hangs can be read in the log"


async def test_jobs_of_a_worker_that_is_gone_are_taken_over(server, recipe, monkeypatch):
    """It took them, and neither acknowledged them nor came back under its name."""
    monkeypatch.setattr(recipe, "ABANDONED", 0.2)
    async with jobs(recipe, server) as its, task_scope() as scope:
        await its.add(5)
        async with recipe.connect(server.url, "gone") as client:
            await recipe.make_group(client)
            assert len(await recipe.take(client, "gone", ">")) == 5

        scope.launch(recipe.work(server.url, "a", its.handle))
        await its.add(5)
        await its.wait_until_handled()

    assert sorted(its.handled.values()) == [1] * 10


async def test_a_job_that_fails_is_put_aside(server, recipe, caplog):
    """It keeps nobody waiting, and is there to be looked at."""
    async with jobs(recipe, server) as its, task_scope() as scope:

        async def handle(job):
            await its.handle(job)
            if len(its.handled) == 3:
                raise ValueError("no picture")

        await its.add(10)
        scope.launch(recipe.work(server.url, "a", handle))
        await its.wait_until_handled()

        async with recipe.connect(server.url, "look") as client:
            [(_, fields)] = await client.xrange(recipe.FAILED)

    assert fields == {"picture": "1.jpeg"}
    assert sorted(its.handled.values()) == [1] * 10
    [record] = [record for record in caplog.records if record.name == "redis_stream"]
    assert record.getMessage() == f"job {list(its.handled)[2]} failed, and is put aside"
    assert str(record.exc_info[1]) == "no picture"


async def test_a_group_that_cannot_be_made_is_told(server, recipe):
    """Something else of this name is no stream: only that the group is there already is fine."""
    async with recipe.connect(server.url, "test") as client:
        await client.set(recipe.STREAM, "a text")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await recipe.make_group(client)


def test_the_program_adds_jobs_and_has_them_handled(server, recipe):
    """It works from the start, and ends when told to."""
    log = run_recipe("redis_stream.py", server.url, "--seconds", "0.9")

    assert re.search(r"0\.9 seconds are over: \d jobs handled$", log, re.MULTILINE)
