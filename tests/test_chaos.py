"""Random programs over the whole public API, and what holds after each of them: see tests/chaos.

More of them than the usual run has::

    pytest tests/test_chaos.py --chaos 100000
"""

from __future__ import annotations

import pytest
from chaos import judge as chaos_judge
from chaos import peers
from chaos.__main__ import main
from chaos.grammar import from_seed, programs
from chaos.judge import LOOPS, court, judge
from chaos.programs import Child, Close, Program, Service, Supervised, show
from chaos.world import Broken
from hypothesis import HealthCheck, given, settings

from async_plus.supervision.history import History

# Programs in one test.
BATCH = 250


def pytest_generate_tests(metafunc):
    """Split the seeds over the loops, each loop having its own, and these into tests of some seconds."""
    if "seeds" in metafunc.fixturenames:
        count = metafunc.config.getoption("--chaos")
        batches = []
        for number, name in enumerate(LOOPS):
            seeds = range(number, count, len(LOOPS))
            batches += [(name, seeds[at : at + BATCH]) for at in range(0, len(seeds), BATCH)]
        metafunc.parametrize(("loop", "seeds"), batches, ids=[f"{name}-{seeds.start}" for name, seeds in batches])


def test_all_promises_are_kept_in_random_programs(loop, seeds):
    """No task is left, no error lost or told twice, no cleanup cut short, nothing cancelled twice, and so on."""
    with court():
        for seed in seeds:
            broken = judge(from_seed(seed), loop)
            assert not broken, f"python -m tests.chaos --seed {seed} --loop {loop}\n" + "\n".join(map(str, broken))


@pytest.mark.parametrize("loop", LOOPS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(program=programs())
def test_all_promises_are_kept_in_programs_that_shrink(loop, program):
    """The same, with programs that hypothesis makes up, and makes small if they fail."""
    with court():
        broken = judge(program, loop)
    assert not broken, f"{show(program)}\n" + "\n".join(map(str, broken))


def test_a_seed_makes_the_same_program_each_time():
    """On each Python: what one finds can be looked at with another."""
    # As they were drawn once. Whoever changes the grammar makes other programs of the same seeds.
    assert [len(show(from_seed(seed))) for seed in range(5)] == [1559, 1656, 96, 560, 225]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("how", ["in the task", "in no task"])
def test_an_attempt_that_a_closed_call_leaves_running_is_found(how, loop, monkeypatch):
    """Whoever closes a call does not wait for its children, so they must have been told by then."""
    program = Program(Child((Close(Supervised(Service()), 1, how),)))
    with court():
        assert judge(program, loop) == []

        monkeypatch.setattr(History, "interrupted", lambda *_: None)
        broken = judge(program, loop)

    assert [str(each) for each in broken[:2]] == [
        "cancelled when closed: 2 of a supervised function of 0",
        "ends in time: 1 of a closed supervised function",
    ]
    assert broken[2].promise == "no task left"


def test_one_seed_is_run_by_the_command_line_with_all_that_happens(capsys):
    """The program, each step with its time, and the verdict."""
    assert main(["--seed", "3", "--loop", "default"]) == 0

    program, _, rest = capsys.readouterr().out.partition("\n\n")
    assert program == show(from_seed(3))
    lines = rest.splitlines()
    assert lines[:2] == ["On the loop default:", "    0.00  host is 0"]
    assert lines[-1] == "All promises are kept."


def test_many_seeds_are_run_by_the_command_line(capsys):
    """On each loop, with the sum in the last line."""
    assert main(["--seeds", "10:13"]) == 0

    [line] = capsys.readouterr().out.splitlines()
    assert f": seeds 10:13 on {', '.join(LOOPS)}: {3 * len(LOOPS)} runs, 0 failed, " in line


def test_seeds_that_fail_are_told_and_stop_the_run(capsys, monkeypatch):
    """With the command that runs one again."""
    monkeypatch.setattr(chaos_judge, "judge", lambda program, loop: [Broken("no cycles", "frame")])

    assert main(["--seeds", "10:160", "--loop", "default", "--most", "2"]) == 1

    assert capsys.readouterr().out.splitlines() == [
        "python -m tests.chaos --seed 10 --loop default",
        "    no cycles: frame",
        "python -m tests.chaos --seed 11 --loop default",
        "    no cycles: frame",
        "2 failed: stopped at seed 110",
    ]


def test_many_seeds_are_run_in_several_processes(capsys):
    """Which share the seeds among them."""
    assert main(["--seeds", "10:160", "--loop", "default", "--jobs", "2"]) == 0

    [line] = capsys.readouterr().out.splitlines()
    assert ": seeds 10:160 on default: 150 runs, 0 failed, " in line


def test_the_table_of_the_page_is_made_by_one_command(tmp_path, capsys):
    """The standard library breaks some of the promises in the same programs; what is around the table stays."""
    page = tmp_path / "chaos.rst"
    page.write_text(f"Before.\n\n{peers.BEGIN}\n\nold\n\n{peers.END}\n\nAfter.\n")

    assert peers.main(["--seeds", "0:30", "--write", str(page)]) == 0

    text = capsys.readouterr().out.rstrip()
    assert page.read_text() == f"Before.\n\n{peers.BEGIN}\n\n{text}\n\n{peers.END}\n\nAfter.\n"
    cells = [line.removeprefix("   * - ").removeprefix("     - ") for line in text.splitlines()[5:]]
    rows = {cells[at]: cells[at + 1 : at + 4] for at in range(0, len(cells), 4)}
    assert rows["broken promise"] == [*peers.PEERS]
    assert rows["**any of them**"][2] == "0"
    [gather, group, _] = rows["a child still runs when the call has ended"]
    assert int(gather) > 0
    assert group == "0"
