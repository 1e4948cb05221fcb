"""What is printed: a table, in colour where `rich` is installed, and JSON for other programs."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

import async_plus
from benchmarks.measure import Result

__all__ = ["Table", "setting", "write_json"]

_MARKS = {True: "ok", False: "MISSED", None: "not measured"}
_STYLES = {True: "green", False: "bold red", None: "yellow"}


class Table:
    """Prints each result as it comes: a long run should be seen to go on."""

    def __init__(self) -> None:
        try:
            from rich.console import Console
        except ImportError:
            self._console = None
        else:
            self._console = Console(highlight=False)

    def head(self) -> None:
        self._print(f"{'ours / theirs':44} {'case':38} {'ratio':>7} {'budget':>7}", "bold")

    def row(self, result: Result) -> None:
        ratio = "-" if result.ratio is None else f"{result.ratio:.2f}"
        mark = result.missing or _MARKS[result.kept]
        text = f"{result.name:44} {result.case:38} {ratio:>7} {result.budget:>7.2f}  {mark}"
        self._print(text, _STYLES[result.kept])

    def foot(self, results: Iterable[Result]) -> None:
        kept = [result.kept for result in results]
        text = f"{kept.count(True)} within budget, {kept.count(False)} missed"
        if None in kept:
            text += f", {kept.count(None)} not measured"
        self._print(text, _STYLES[False not in kept])

    def _print(self, text: str, style: str) -> None:
        if self._console is None:
            print(text, flush=True)
        else:
            self._console.print(text, style=style, markup=False, soft_wrap=True)


def setting() -> dict[str, str]:
    """What was measured, and on what."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "async_plus": async_plus.__version__,
        "wrapt": importlib.metadata.version("wrapt"),
        "measured": str(Path(async_plus.__file__).parent),
    }


def write_json(path: str, rounds: int, results: Iterable[Result]) -> None:
    """Write the results to the file *path*, or print them if it is ``-``."""
    rows = [
        {
            "name": result.name,
            "case": result.case,
            "ratio": result.ratio,
            "budget": result.budget,
            "kept": result.kept,
            "seconds": dict(result.seconds),
            "missing": result.missing,
        }
        for result in results
    ]
    text = json.dumps({"setting": setting(), "rounds": rounds, "rows": rows}, indent=2)
    if path == "-":
        sys.stdout.write(text + "\n")
    else:
        Path(path).write_text(text + "\n")
