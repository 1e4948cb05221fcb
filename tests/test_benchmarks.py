"""The benchmarks run: a made-up contest goes through the whole harness. No test looks at a real time."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def benchmarks(monkeypatch):
    """The command line of the benchmarks, with a made-up contest in place of the real ones."""
    monkeypatch.syspath_prepend(str(ROOT))
    module = importlib.import_module("benchmarks.__main__")
    monkeypatch.setattr(module, "contests", lambda sizes: iter([contest()]))
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
        ],
        missing={"absent": "absent is not installed"},
    )


def test_the_quickest_turn_counts_and_each_ratio_is_held_against_its_budget(benchmarks, tmp_path, capsys):
    """A row per ratio is printed and written to the file; a missed budget is the exit status."""
    status = benchmarks.main(["--rounds", "2", "--json", str(tmp_path / "rows.json")])

    assert status == 1
    kept, missed, timed, absent = json.loads((tmp_path / "rows.json").read_text())["rows"]
    # The first of three runs in each round is not counted.
    assert kept["seconds"] == {"ours": 2.0, "theirs": 4.0}
    assert [(row["ratio"], row["kept"]) for row in (kept, missed, absent)] == [(0.5, True), (0.5, False), (None, None)]
    assert timed["seconds"]["timed"] > 0
    printed = capsys.readouterr().out
    assert "ok" in printed
    assert "MISSED" in printed
    assert "absent is not installed" in printed
    assert "2 within budget, 1 missed, 1 not measured" in printed


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

    contests = list(rows.contests(rows.QUICK))

    assert contests
    for real in contests:
        for ratio in real.ratios:
            assert {*ratio.sides} <= {*real.sides, *real.missing}
