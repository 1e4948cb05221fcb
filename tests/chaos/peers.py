"""The same programs with `asyncio.gather` and `asyncio.TaskGroup`: how many of them break which promise.

To write the table of the docs anew::

    python -m tests.chaos.peers --seeds 0:10000 --write docs/explanation/chaos.rst
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from async_plus import try_gather

from .grammar import from_seed
from .judge import court, judge

# What each promise means here, in the order of the table.
PROMISES = {
    "no task left": "a child still runs when the call has ended",
    "no error lost": "an error is neither raised nor reported",
    "each error once": "an error is raised or reported more than once",
    "right results": "it returns although a result is missing",
    "same cancelling()": "the count of ``cancelling()`` is changed afterwards",
    "cancelled once": "a cancellation arrives that nobody requested, or twice",
    "cancellations arrive": "a cancellation that arrived is swallowed",
    "ends in time": "the end comes late",
    "cleanups end": "a cleanup does not come to its end",
    "no coroutine never awaited": "a coroutine is never awaited",
    "no error never retrieved": "an error surfaces only when garbage is collected",
    "no cycles": "a reference cycle holds frames",
}
BEGIN, END = ".. The table begins.", ".. The table ends."


async def in_task_group(*coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
    """`asyncio.TaskGroup` in the form of a gather."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
    return [None if task.cancelled() else task.result() for task in tasks]


async def gather(*coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
    """`asyncio.gather`, which is none of the coroutine functions."""
    return await asyncio.gather(*coroutines)


PEERS = {"``asyncio.gather``": gather, "``asyncio.TaskGroup``": in_task_group, "``try_gather``": try_gather}


def count(seeds: range) -> dict[str, Counter[str]]:
    """Run the programs of *seeds* with each, and count how many break each promise, or any."""
    counts = {peer: Counter[str]() for peer in PEERS}
    with court():
        for seed in seeds:
            program = from_seed(seed, gathers_only=True)
            for peer, function in PEERS.items():
                promises = {broken.promise for broken in judge(program, gather=function)}
                counts[peer].update(promises)
                counts[peer]["any"] += bool(promises)
                counts[peer]["any but cycles"] += bool(promises - {"no cycles"})
    return counts


def table(seeds: range, counts: dict[str, Counter[str]]) -> str:
    """Return the table, in reStructuredText."""
    python = ".".join(map(str, sys.version_info[:3]))
    rows = [["broken promise", *PEERS]]
    sums = {"any": "**any of them**", "any but cycles": "**any of them but the cycles**"}
    for promise, text in {**PROMISES, **sums}.items():
        rows.append([text, *(f"{counts[peer][promise]:,}" for peer in PEERS)])
    lines = [f"Of {len(seeds):,} programs, on CPython {python}:", "", ".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        lines += [f"   {'*' if cell is row[0] else ' '} - {cell}" for cell in row]
    return "\n".join(lines)


def write(path: Path, text: str) -> None:
    """Put *text* where the table is in a page."""
    before, _, rest = path.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def main(argv: list[str] | None = None) -> int:
    """Print the table, or write it into a page."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.peers", description="The same with the stdlib.")
    parser.add_argument("--seeds", default="0:1000", metavar="A:B", help="which programs (default: %(default)s)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table into this page")
    arguments = parser.parse_args(argv)
    start, _, stop = arguments.seeds.partition(":")
    seeds = range(int(start), int(stop))
    text = table(seeds, count(seeds))
    print(text)
    if arguments.write:
        write(arguments.write, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
