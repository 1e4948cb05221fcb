"""The recipe with a supervision tree: who is restarted with whom, and that no job is lost."""

from __future__ import annotations

import logging
from collections import Counter

import pytest
from programs import load, run_recipe

from async_plus import AttemptFailed, AttemptStarted
from async_plus.testing import record_events

PRODUCERS = {"producers", "producer 0", "producer 1"}
WORKERS = {"workers", "worker 0", "worker 1", "worker 2"}
ALL = {"database"} | PRODUCERS | WORKERS

RESTARTED = {
    "worker 1": {"worker 1"},
    "producer 0": {"producer 0"},
    "workers": WORKERS,
    "producers": PRODUCERS | WORKERS,
    "database": ALL,
}


def nothing_is_lost(jobs, *, left=10):
    """Each source has stored its jobs without a gap, and each of them is done or still to be done."""
    for source in ("a", "b"):
        numbers = sorted(int(job.partition("-")[2]) for job in jobs if job.startswith(f"{source}-"))
        assert numbers == list(range(len(numbers)))
    counts = Counter(jobs.values())
    assert set(counts) <= {"done", "queued"}
    assert counts["done"] > 40
    assert counts["queued"] <= left


@pytest.mark.virtual_time
@pytest.mark.parametrize("victim", RESTARTED)
async def test_who_is_killed_is_restarted_with_those_that_depend_on_it(victim):
    """A worker alone, a group as a whole, and whatever was started after what has failed."""
    with record_events() as events:
        jobs = await load("worker_tree").main(4, [victim], 1)

    [failed] = [event.service for event in events if isinstance(event, AttemptFailed)]
    assert failed == victim
    started = Counter(event.service for event in events if isinstance(event, AttemptStarted))
    assert {service for service, count in started.items() if count == 2} == RESTARTED[victim]
    assert {service for service, count in started.items() if count == 1} == ALL - RESTARTED[victim]
    nothing_is_lost(jobs)


@pytest.mark.virtual_time
async def test_broken_connections_bring_back_who_used_them():
    """Each by itself, with a new connection."""
    with record_events() as events:
        jobs = await load("worker_tree").main(3, ["connections"], 1)

    failed = {event.service for event in events if isinstance(event, AttemptFailed)}
    assert failed
    assert failed <= {"database"} | WORKERS | PRODUCERS
    assert not failed & {"workers", "producers"}
    nothing_is_lost(jobs)


@pytest.mark.virtual_time
async def test_all_are_killed_in_turn_and_no_job_is_lost(caplog):
    """What the recipe shows, in less time."""
    caplog.set_level(logging.INFO)
    module = load("worker_tree")

    jobs = await module.main(9, pause=1)

    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if line.startswith("---")] == [f"--- killing {victim}" for victim in module.VICTIMS]
    assert "supervisor 'app' restarts producers, workers with database (rest_for_one)" in lines
    stops = [line.partition(" stopped")[0] for line in lines if " stopped, attempt " in line][-8:]
    assert stops == [
        *("worker 2", "worker 1", "worker 0", "workers"),
        *("producer 1", "producer 0", "producers", "database"),
    ]
    assert lines[-1].startswith("jobs: {")
    assert lines[-1].endswith(", lost: 0")
    nothing_is_lost(jobs)


@pytest.mark.virtual_time
async def test_a_worker_that_fails_again_and_again_fails_its_group(monkeypatch, caplog):
    """After five restarts in a row the group is restarted, with nobody else."""
    module = load("worker_tree")
    ask, failures = module.Connection.ask, iter(range(6))

    async def fail_at_first(connection, question):
        if question == "take" and next(failures, None) is not None:
            raise ConnectionError("no")
        return await ask(connection, question)

    monkeypatch.setattr(module.Connection, "ask", fail_at_first)
    monkeypatch.setattr(module, "workers", only_one_worker(module))
    with record_events() as events:
        jobs = await module.main(5, [], 1)

    failed = [event.service for event in events if isinstance(event, AttemptFailed)]
    assert failed == ["worker 0"] * 5 + ["workers"]
    # A single worker does not keep up.
    nothing_is_lost(jobs, left=len(jobs))


def only_one_worker(module):
    workers = module.workers

    async def one(pool, count):
        await workers(pool, 1)

    return one


def test_it_runs_as_a_program():
    """The command of the page ends by itself, with the log on standard error and no warning of Python's."""
    log = run_recipe("worker_tree.py", "--seconds", "0.5")

    assert log.splitlines()[-1].endswith(", lost: 0")
