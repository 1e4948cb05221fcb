"""The job on a Dask cluster in the recipes is owned to its end, on real worker processes."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import dask
import pytest
import tornado.util
from distributed import Client, KilledWorker, LocalCluster
from distributed.batched import BatchedSend
from distributed.comm import CommClosedError
from distributed.deploy import spec
from programs import RECIPES, load, run_recipe
from tools import Boom, start

from async_plus import AttemptFailed, UnexpectedCancellation, result_of, stacks, try_gather
from async_plus.testing import record_events


@pytest.fixture(autouse=True)
def no_debris_of_dask(no_leaks):
    """A connection that Dask gives up, on a busy machine, leaves behind a time-out of its own that nobody retrieves."""
    yield
    gc.collect()
    no_leaks.errors[:] = [record for record in no_leaks.errors if not is_of_connection(record)]


def is_of_connection(record):
    error = record.exc_info and record.exc_info[1]
    return isinstance(error, CommClosedError) or (
        isinstance(error, tornado.util.TimeoutError) and str(error) == "Timeout"
    )


def is_of_dask(task):
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and not {"distributed", "tornado"}.isdisjoint(Path(code.co_filename).parts)


@pytest.fixture(scope="module")
def cluster():
    """Two workers, and a scheduler that gives up a part when its worker dies: to try again is what we test.

    A result that is being fetched from a worker when that dies keeps Dask busy until its time-out, of 30 s by default.
    And 15 s after a death it takes away for good who is not there at that moment: who was killed by the next test, say.
    """
    config = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.comm.timeouts.connect": "10s",
        "distributed.deploy.lost-worker-timeout": "1 hour",
    }
    with pytest.MonkeyPatch.context() as patch, dask.config.set(config):
        # The workers import the recipe by its name. They inherit the path.
        patch.syspath_prepend(RECIPES)
        with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
            yield cluster


@pytest.fixture
async def nothing_left_to_send(monkeypatch):
    """End what a closed client of Dask leaves running: on a busy machine it may have a message more, and send it later.

    It keeps no task for that, but makes one when the time has come, perhaps while the test is looked at for leaks.
    """
    loop, senders = asyncio.get_running_loop(), []
    start = BatchedSend.start

    def started(sender, comm):
        # The scheduler of the cluster has senders of its own, in a thread.
        if sender.loop.asyncio_loop is loop:
            senders.append(sender)
        start(sender, comm)

    monkeypatch.setattr(BatchedSend, "start", started)
    yield
    async with asyncio.timeout(10):
        for sender in senders:
            sender.abort()
            await sender.stopped.wait()
        while last := [task for task in asyncio.all_tasks() if is_of_dask(task)]:
            await asyncio.wait(last)


@pytest.fixture
def recipe(cluster, nothing_left_to_send, monkeypatch):
    """The recipe, with the random part of its delays removed."""
    monkeypatch.setattr("random.random", lambda: 0.0)
    return importlib.import_module("dask_cluster")


async def wait_until_forgotten(cluster):
    """Wait until the scheduler knows of no task any more."""
    while cluster.scheduler.tasks:
        await asyncio.sleep(0.01)


async def wait_until_begun(folder, count=1):
    """Wait until so many jobs run at the workers."""
    while len(list(folder.iterdir())) < count:
        await asyncio.sleep(0.01)


# What the workers do.


def note(folder, part):
    (folder / f"{part[0]}-{os.getpid()}").touch()


def block(folder, part=(0, 0)):
    """Run until there is a file of the name "end"."""
    note(folder, part)
    while not (folder / "end").exists():
        time.sleep(0.01)
    return "done"


def fail(folder, error):
    """Raise *error* when there is a file of the name "fail"."""
    note(folder, (1, 1))
    while not (folder / "fail").exists():
        time.sleep(0.01)
    raise error


PARTS = [(number, number + 1) for number in range(30)]


async def test_parts_are_counted_once_each(cluster, recipe):
    """All of them, and right."""
    counts = {}
    await recipe.count_all(cluster.scheduler_address, PARTS[2:], counts)

    assert sorted(counts) == PARTS[2:]
    assert sum(counts.values()) == 10, "2, 3, 5, 7, 11, 13, 17, 19, 23 and 29"
    await wait_until_forgotten(cluster)


async def test_an_error_of_a_part_is_raised_and_cancels_the_others_at_the_scheduler(cluster, recipe, tmp_path):
    """As itself. One that runs already cannot be stopped, and nobody wants its result any more."""
    async with recipe.connect(cluster.scheduler_address) as client:
        failing = client.submit(fail, tmp_path, Boom(), pure=False)
        others = [client.submit(block, tmp_path, pure=False) for _ in range(6)]
        gathering = await start(try_gather(*map(result_of, [failing, *others])))
        await wait_until_begun(tmp_path, 2)
        (tmp_path / "fail").touch()
        with pytest.raises(Boom):
            await gathering

        assert [future.status for future in others] == ["cancelled"] * 6
        # The failed one is kept for as long as somebody has the future.
        while set(cluster.scheduler.tasks) != {failing.key}:
            await asyncio.sleep(0.01)
    (tmp_path / "end").touch()


async def test_a_cancellation_cancels_the_parts_at_the_scheduler(cluster, recipe, tmp_path, monkeypatch):
    """When the caller is cancelled, the cluster is free for others."""
    monkeypatch.setattr(recipe, "count_primes", lambda part: block(tmp_path, part))
    counting = await start(recipe.count_all(cluster.scheduler_address, PARTS, {}))
    await wait_until_begun(tmp_path)
    assert len(cluster.scheduler.tasks) <= 8, "no more than the limit is with the scheduler at a time"

    counting.cancel()
    await asyncio.wait([counting])

    assert counting.cancelled()
    await wait_until_forgotten(cluster)
    (tmp_path / "end").touch()


async def test_a_cancellation_reaches_futures_that_somebody_still_has(cluster, recipe, tmp_path):
    """They would not be released by being forgotten here: they are cancelled, each of them."""
    async with recipe.connect(cluster.scheduler_address) as client:
        futures = [client.submit(block, tmp_path, pure=False) for _ in range(6)]
        gathering = await start(try_gather(*map(result_of, futures)))
        await wait_until_begun(tmp_path)
        gathering.cancel()
        await asyncio.wait([gathering])

        assert gathering.cancelled()
        assert [future.status for future in futures] == ["cancelled"] * 6
        await wait_until_forgotten(cluster)
    (tmp_path / "end").touch()


async def test_a_client_that_blocks_will_do(cluster, recipe, tmp_path):
    """One with a loop in a thread of its own, as in a program that is not asynchronous."""
    with await asyncio.to_thread(Client, cluster.scheduler_address, set_as_default=False) as client:
        assert await result_of(client.submit(pow, 2, 10)) == 1024

        future = client.submit(block, tmp_path, pure=False)
        waiting = await start(result_of(future))
        await wait_until_begun(tmp_path)
        waiting.cancel()
        await asyncio.wait([waiting])

        assert waiting.cancelled()
        assert future.cancelled()
    (tmp_path / "end").touch()


async def test_a_part_that_somebody_else_cancels(cluster, recipe, tmp_path):
    """That is none of the caller's own cancellations."""
    async with recipe.connect(cluster.scheduler_address) as client:
        future = client.submit(block, tmp_path, pure=False)
        waiting = await start(result_of(future))
        assert str(stacks.parked(waiting)) == "on distributed Future"
        await future.cancel()

        with pytest.raises(UnexpectedCancellation) as caught:
            await waiting
        assert str(caught.value) == "the distributed Future was cancelled while result_of waited for it"
        assert "cancelled for reason" in str(caught.value.__cause__)
        del caught
    (tmp_path / "end").touch()


async def test_a_worker_that_is_killed_costs_no_part(cluster, recipe, tmp_path, monkeypatch):
    """SIGKILL, in the middle of a part: the service comes back, and has only those counted that are missing."""
    saved = []

    class Counts(dict):
        def __setitem__(self, part, number):
            saved.append(part)
            super().__setitem__(part, number)

    def count(part, folder=tmp_path):
        note(folder, part)
        if part[0] == 20 and len(list(folder.glob("20-*"))) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return part[0]

    monkeypatch.setattr(recipe, "count_primes", count)
    counts = Counts()
    with record_events() as events:
        await recipe.count_all(cluster.scheduler_address, PARTS, counts)

    assert Counter(saved) == Counter(PARTS), "each was taken once"
    assert counts == {part: part[0] for part in PARTS}
    failures = [event.exception for event in events if isinstance(event, AttemptFailed)]
    # On a busy machine Dask may lose the other worker as well, which has to start anew.
    assert {type(failure) for failure in failures} == {KilledWorker}
    await wait_until_forgotten(cluster)


def test_a_worker_of_its_own_that_is_killed_stays_one_of_the_cluster(monkeypatch, no_leaks):
    """Dask looks 15 s later whether it has come back, and takes it away for good if not: here at once."""
    parse = spec.parse_timedelta
    monkeypatch.setattr(spec, "parse_timedelta", lambda text, *rest: 0.01 if text == "15s" else parse(text, *rest))
    recipe = load("dask_cluster")
    clusters = []

    def new_cluster(**options):
        clusters.append(LocalCluster(**options))
        return clusters[0]

    monkeypatch.setattr(recipe, "new_cluster", new_cluster)

    async def addresses(client):
        return set((await client.scheduler.identity())["workers"])

    async def main():
        async with asyncio.timeout(50), recipe.local_cluster() as address, recipe.connect(address) as client:
            before = await addresses(client)
            os.kill(await client.submit(os.getpid), signal.SIGKILL)
            while (after := await addresses(client)) == before or len(after) < 2:
                await asyncio.sleep(0.05)
            assert list(clusters[0].workers) == [0, 1]

    asyncio.run(main())
    # What a scheduler and its nannies leave in their loop is Dask's.
    gc.collect()
    no_leaks.errors.clear()
    no_leaks.never_awaited.clear()


def test_the_program_counts_with_workers_of_its_own():
    """It is 303 prime numbers below 2000, and ends by itself."""
    # Dask has warnings of its own, and on a busy machine shows where it was when a connection was closed.
    log = run_recipe("dask_cluster.py", "--below", "2000", python=[sys.executable], tracebacks=True)

    assert re.search(r" 303 prime numbers below 2000$", log, re.MULTILINE)
