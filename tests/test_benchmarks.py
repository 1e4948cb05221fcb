"""The benchmarks run: a made-up contest goes through the whole harness. No test looks at a real time."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def benchmarks(monkeypatch):
    """The command line of the benchmarks, with a made-up contest in place of the real ones."""
    monkeypatch.syspath_prepend(str(ROOT))
    module = importlib.import_module("benchmarks.__main__")
    monkeypatch.setattr(module, "contests", lambda sizes, loop: iter([contest()]))
    growth = importlib.import_module("benchmarks.growth")
    storm = importlib.import_module("benchmarks.storm")
    monkeypatch.setattr(growth, "curves", lambda extent: iter([growth.Point("task_scope", 1_000, 2e-6, 700.0)]))
    monkeypatch.setattr(
        module, "storms", lambda services, rounds: iter([storm.Storm("default", "on", 10, 1, 0.5, 0.1)])
    )
    return module


def contest():
    measure = importlib.import_module("benchmarks.measure")
    ours = iter([1.0, 3.0, 2.0, 1.0, 4.0, 5.0])

    async def takes_its_own_time():
        return next(ours)

    async def takes_four_seconds():
        return 4.0

    async def is_timed():
        await asyncio.sleep(0)

    return measure.Contest(
        case="made up",
        sides={"ours": takes_its_own_time, "theirs": takes_four_seconds, "timed": is_timed},
        ratios=[
            measure.Ratio("kept", 0.5, ("ours", "theirs"), measure.divided),
            measure.Ratio("missed", 0.4, ("ours", "theirs"), measure.divided),
            measure.Ratio("timed", float("inf"), ("timed", "theirs"), measure.divided),
            measure.Ratio("absent", 1.0, ("ours", "absent"), measure.divided),
            measure.Ratio("free", None, ("ours", "theirs"), measure.divided, "does half of it"),
        ],
        missing={"absent": "absent is not installed"},
        unfit={"other": {"timed": "it hangs there"}},
    )


def test_the_quickest_turn_counts_and_each_ratio_is_held_against_its_budget(benchmarks, tmp_path, capsys):
    """A row per ratio is printed and written to the file; a missed budget is the exit status."""
    status = benchmarks.main(["--rounds", "2", "--loop", "default", "--json", str(tmp_path / "rows.json")])

    assert status == 1
    document = json.loads((tmp_path / "rows.json").read_text())
    kept, missed, timed, absent, free = document["rows"]
    # The first of three runs in each round is not counted.
    assert kept["seconds"] == {"ours": 2.0, "theirs": 4.0}
    assert [(row["ratio"], row["kept"]) for row in (kept, missed, absent, free)] == [
        (0.5, True),
        (0.5, False),
        (None, None),
        (0.5, None),
    ]
    assert timed["seconds"]["timed"] > 0
    assert document["growth"] == [{"curve": "task_scope", "count": 1_000, "seconds": 2e-6, "bytes": 700.0}]
    assert [storm["failure"] for storm in document["storms"]] == [0.5]
    printed = capsys.readouterr().out
    assert "ok" in printed
    assert "MISSED" in printed
    assert "absent is not installed" in printed
    assert "theirs: does half of it" in printed
    assert "2.00 us       700 bytes each" in printed
    assert "10 services restart, random_shift=1, log on" in printed
    assert "500 ms, 100 ms" in printed
    assert "2 within budget, 1 missed, 1 not measured" in printed


def test_a_quick_run_never_fails_for_being_slow(benchmarks, capsys):
    """It is there to see that all of it works: what a busy machine measures in one round says nothing."""
    assert benchmarks.main(["--quick", "--only", "missed", "--loop", "default"]) == 0

    assert "0 within budget, 1 missed" in capsys.readouterr().out


def test_budgets_hold_on_the_default_loop_only(benchmarks, monkeypatch):
    """On another loop the same is measured for information, save what does not work there."""
    measure = importlib.import_module("benchmarks.measure")
    made = []

    def other_loop():
        made.append(asyncio.new_event_loop())
        return made[0]

    monkeypatch.setitem(measure.LOOPS, "other", other_loop)

    results = {result.name: result for result in measure.measure(contest(), 1, loop="other")}

    assert len(made) == 1
    assert {result.budget for result in results.values()} == {None}
    assert {result.loop for result in results.values()} == {"other"}
    assert results["kept"].ratio == 0.5
    assert (results["timed"].ratio, results["timed"].missing) == (None, "it hangs there")


def test_only_the_rows_asked_for_are_run(benchmarks, capsys):
    """With --only, the sides that no such row needs are not run either, and an unknown name is told of."""
    assert benchmarks.main(["--quick", "--only", "TIMED"]) == 0
    assert "1 within budget, 0 missed" in capsys.readouterr().out

    assert benchmarks.main(["--only", "nothing"]) == 2
    assert capsys.readouterr().err == "no row is called anything like nothing\n"


def test_garbage_collection_is_as_before_afterwards(benchmarks):
    """What is frozen and switched off for the time of a measurement comes back."""
    frozen = gc.get_freeze_count()

    benchmarks.main(["--rounds", "1", "--only", "timed"])

    assert gc.isenabled()
    # CPython 3.12 starts with some objects frozen, which are let go as well.
    assert gc.get_freeze_count() <= frozen


def test_the_real_contests_can_be_made(benchmarks):
    """Every ratio of every contest is made of sides that there are, or that are told to be missing."""
    rows = importlib.import_module("benchmarks.rows")

    contests = [real for loop in ("default", "uvloop") for real in rows.contests(rows.QUICK, loop)]

    assert contests
    for real in contests:
        for ratio in real.ratios:
            assert {*ratio.sides} <= {*real.sides, *real.missing}


def test_a_child_waits_on_sockets_that_are_closed_afterwards(benchmarks):
    """The pairs are made once and used again, and go with the last contest that needs them."""
    workloads = importlib.import_module("benchmarks.rows.workloads")
    cases = workloads.cases(workloads.QUICK, "children")
    case = next(case for case in cases if case.work is workloads.waits_on_a_socket)

    async def twice():
        for _ in range(2):
            await asyncio.gather(*[case.work() for _ in range(case.count)])

    asyncio.run(twice())
    assert len(workloads._pairs) == case.count
    pairs = list(workloads._pairs)
    cases.close()

    assert workloads._pairs == []
    assert {end.fileno() for pair in pairs for end in pair} == {-1}


@pytest.mark.parametrize(
    "curve", ["try_gather", "task_scope", "impatient waits", "services at rest", "through one scope"]
)
def test_a_point_of_a_curve_is_measured(benchmarks, curve):
    """Each kind of run comes to its end, and takes some time of each of its tasks."""
    growth = importlib.import_module("benchmarks.growth")
    frozen = gc.get_freeze_count()

    try:
        point = growth.measure(curve, 10)
    finally:
        # In the process that it is meant for, both stay so.
        gc.enable()

    assert (point.curve, point.count) == (curve, 10)
    assert point.seconds > 0
    assert gc.get_freeze_count() >= frozen


def test_a_storm_leaves_the_logger_as_it_was(benchmarks):
    """It has a handler of its own while it rages."""
    storm = importlib.import_module("benchmarks.storm")
    logger = logging.getLogger("async_plus")
    before = logger.handlers[:], logger.propagate, logger.disabled

    seen = storm.storms(1, 1)
    assert next(seen).services == 1
    seen.close()

    assert (logger.handlers, logger.propagate, logger.disabled) == before
