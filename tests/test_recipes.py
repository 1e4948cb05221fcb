"""The recipes do what they promise to show."""

from __future__ import annotations

import ast
import logging
import re

import pytest
from programs import RECIPES, load, run_recipe


def test_every_recipe_is_in_the_index():
    """Whoever opens the folder's README finds each program."""
    index = (RECIPES / "README.rst").read_text()

    programs = [file.name for file in RECIPES.glob("*.py")]
    folders = [f"{file.name}/" for file in RECIPES.iterdir() if file.is_dir() and file.name != "__pycache__"]
    assert [name for name in programs + folders if f"``{name}``" not in index] == []


@pytest.mark.parametrize("program", sorted(file.stem for file in RECIPES.glob("*.py")))
def test_every_recipe_tells_how_to_run_it(program):
    """At the beginning of its file."""
    text = ast.get_docstring(ast.parse((RECIPES / f"{program}.py").read_text()))

    assert f"python recipes/{program}.py" in text


@pytest.mark.virtual_time
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_quickstart_shows_a_newcomer_what_it_promises(caplog, seed):
    """In its 15 seconds, whatever the seed: failures, growing delays, a hanging wait, a background failure, an end."""
    caplog.set_level(logging.INFO)

    await load("quickstart").main(15, seed)

    lines = [record.getMessage() for record in caplog.records]
    text = "\n".join(lines)
    [first, *_] = [record for record in caplog.records if "restart 1 in" in record.getMessage()]
    assert first.exc_info
    for restart in (1, 2, 3):
        assert re.search(rf"^feed of \w+ failed after \d\.\d s with \w+Error, restart {restart} in ", text, re.M)
    assert re.search(
        r"^Still waiting for next_line after 1\.0 s at \S+quickstart\.py:\d+ in follow; "
        r"parked at \S+quickstart\.py:\d+ in next_line on StreamReader\.readline, peer 127\.0\.0\.1:\d+$",
        text,
        re.M,
    )
    assert re.search(r"^task '[^']+' failed with OSError, launched at \S+quickstart\.py:\d+ in follow$", text, re.M)
    assert "15 seconds are over: the scope stops its consumers" in lines
    assert lines[-1].startswith("stopped in order: 0 tasks left, prices received: {'ACME': ")


def test_quickstart_runs_as_a_program():
    """The command of the README ends by itself, with the log on standard error and no warning of Python's."""
    log = run_recipe("quickstart.py", "--seconds", "0.2", "--seed", "1")

    assert "stopped in order: 0 tasks left, prices received: {'ACME': " in log.splitlines()[-1]
