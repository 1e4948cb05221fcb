"""What is printed: a table, in colour where `rich` is installed, and JSON for other programs."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import async_plus
from benchmarks.growth import Point
from benchmarks.measure import Result
from benchmarks.storm import Storm

__all__ = ["Table", "setting", "write_json"]

PEERS = ("aiojobs", "aiotools", "anyio", "backoff", "quattro", "stamina", "tenacity", "uvloop")

_MARKS = {True: "ok", False: "MISSED", None: "not measured"}
_STYLES = {True: "green", False: "bold red", None: "yellow"}


class Table:
    """Prints each result as it comes, and below them how far it has got: a long run should be seen to go on."""

    def __init__(self, steps: int) -> None:
        self._console: Any = None
        self._progress: Any = None
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        except ImportError:
            return
        self._console = Console(highlight=False)
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._progress = Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        )
        self._step = self._progress.add_task("", total=steps)

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def begin(self, what: str) -> None:
        """Show *what* is being measured."""
        if self._progress is not None:
            self._progress.update(self._step, description=what)

    def end(self) -> None:
        """Show that one more step is done."""
        if self._progress is not None:
            self._progress.advance(self._step)

    def head(self) -> None:
        self._print(f"{'ours / theirs':44} {'case':40} {'loop':8} {'ratio':>6} {'budget':>6}", "bold")

    def row(self, result: Result) -> None:
        ratio = "-" if result.ratio is None else f"{result.ratio:.2f}"
        budget = "-" if result.budget is None else f"{result.budget:.2f}"
        notes = [result.missing or (_MARKS[result.kept] if result.budget is not None else "")]
        if result.less:
            notes.append(f"theirs: {result.less}")
        text = f"{result.name:44} {result.case:40} {result.loop:8} {ratio:>6} {budget:>6}"
        text = f"{text}  {'; '.join(filter(None, notes))}".rstrip()
        self._print(text, _style(result))

    def point(self, point: Point) -> None:
        self._print(
            f"{point.curve:44} {point.count:>9,} {point.seconds * 1e6:9.2f} us {point.bytes:9,.0f} bytes each", ""
        )

    def storm(self, storm: Storm) -> None:
        text = f"{storm.services:,} services restart, random_shift={storm.random_shift:g}, log {storm.log}"
        self._print(f"{text:85} {storm.loop:8} {storm.failure * 1e3:.0f} ms, {storm.restart * 1e3:.0f} ms", "")

    def title(self, text: str) -> None:
        self._print(f"\n{text}", "bold")

    def foot(self, results: Iterable[Result]) -> None:
        kept = [result.kept for result in results if result.budget is not None]
        text = f"{kept.count(True)} within budget, {kept.count(False)} missed"
        if None in kept:
            text += f", {kept.count(None)} not measured"
        self._print(text, "bold red" if False in kept else "green")

    def _print(self, text: str, style: str) -> None:
        if self._console is None:
            print(text, flush=True)
        else:
            self._console.print(text, style=style, markup=False, soft_wrap=True)


def _style(result: Result) -> str:
    if result.ratio is None:
        return "yellow"
    return "" if result.budget is None else _STYLES[result.kept]


def setting() -> dict[str, str]:
    """What was measured, and on what."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "async_plus": async_plus.__version__,
        **{name: importlib.metadata.version(name) for name in ("wrapt", *PEERS) if importlib.util.find_spec(name)},
        "cores": str(os.cpu_count()),
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def write_json(
    path: str, rounds: int, results: Iterable[Result], points: Iterable[Point], storms: Iterable[Storm]
) -> None:
    """Write all figures to the file *path*, or print them if it is ``-``."""
    lists = {
        "rows": [asdict(result) | {"kept": result.kept} for result in results],
        "growth": [asdict(point) for point in points],
        "storms": [asdict(storm) for storm in storms],
    }
    # A line for each, so that versions of the file can be compared.
    parts = [f'"setting": {json.dumps(setting())}', f'"rounds": {rounds}']
    for name, entries in lists.items():
        lines = ",\n".join(map(json.dumps, entries))
        parts.append(f'"{name}": [\n{lines}\n]')
    text = "{\n" + ",\n".join(parts) + "\n}\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        Path(path).write_text(text)
