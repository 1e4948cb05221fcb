"""The recipes, as modules of this process and as programs of their own."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

RECIPES = Path(__file__).parent.parent / "recipes"


def load(name: str) -> ModuleType:
    """Import a recipe under a name that no other module has."""
    spec = importlib.util.spec_from_file_location(f"recipes_{name}", RECIPES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Those who look up annotations find the module here.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class RecipeProgram:
    """A recipe in a process of its own, for which Python's warnings are errors."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", *command],
            cwd=RECIPES,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read the log until a line matches."""
        said = ""
        while line := self.process.stderr.readline():
            if match := re.search(pattern, line):
                return match
            said += line
        raise AssertionError(f"the program ended without saying {pattern!r}, but\n{said}")

    def signalled(self, signum: int) -> None:
        self.process.send_signal(signum)

    def end(self) -> tuple[int, list[str]]:
        """Return the exit code and the messages that it has logged since the last look."""
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, [re.sub(r"^\S+ \w+ +", "", line) for line in said.splitlines()]


@pytest.fixture
def start_recipe():
    """Starts recipes, none of which outlives the test."""
    programs = []

    def start(*command):
        programs.append(RecipeProgram(*command))
        return programs[-1]

    yield start
    for program in programs:
        with program.process as process:
            if process.poll() is None:
                process.kill()
