"""The recipes, as modules of this process and as programs of their own."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

RECIPES = Path(__file__).parent.parent / "recipes"

# Python's warnings are errors.
STRICT = [sys.executable, "-X", "dev", "-W", "error"]


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


def run_recipe(*command: str, python: Sequence[str] = STRICT, tracebacks: bool = False) -> str:
    """Run a recipe to its end in a process of its own, and return its log, with no traceback if there may be none."""
    done = subprocess.run([*python, *command], cwd=RECIPES, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert tracebacks or "Traceback" not in done.stderr, done.stderr
    return "\n".join(_told(done.stderr))


def _told(log: str) -> list[str]:
    """The lines of *log*, without those of asyncio's debug mode on a machine that is busy with other things."""
    return [line for line in log.splitlines() if not re.search(r"Executing <.*> took \d+\.\d+ seconds$", line)]


class RecipeProgram:
    """A recipe in a process of its own, which is signalled while it runs."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [*STRICT, *command],
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
        return self.process.returncode, [re.sub(r"^\S+ \w+ +", "", line) for line in _told(said)]
