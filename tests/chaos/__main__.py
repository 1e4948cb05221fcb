"""The command line: many seeds, or one with all that happens in it."""

from __future__ import annotations

import argparse
import contextlib
import functools
import multiprocessing
import sys
import time
from collections import Counter

from .grammar import from_seed
from .judge import LOOPS, court, judge, judge_seeds
from .programs import kinds, show

# Seeds that are run and reported together.
CHUNK = 100


def main(argv: list[str] | None = None) -> int:
    """Run programs, and return 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Random programs over the public API.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, help="run this one, and print the program and what happens in it")
    which.add_argument("--seeds", type=_range, default=range(1000), metavar="A:B", help="run these (default: 0:1000)")
    parser.add_argument("--loop", choices=[*LOOPS], action="append", help="on this loop only; may be repeated")
    parser.add_argument("--most", type=int, default=10, metavar="N", help="stop after so many that fail (default: 10)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="in so many processes (default: 1)")
    parser.add_argument("--census", action="store_true", help="tell what the programs are made of, and run none")
    arguments = parser.parse_args(argv)
    loops = arguments.loop or [*LOOPS]
    if arguments.seed is not None:
        return _one(arguments.seed, loops)
    if arguments.census:
        found = Counter(kind.__name__ for seed in arguments.seeds for kind in kinds(from_seed(seed)))
        print("\n".join(f"{count:8} {name}" for name, count in found.most_common()))
        return 0
    return _many(arguments.seeds, loops, arguments.most, arguments.jobs)


def _range(text: str) -> range:
    start, _, stop = text.partition(":")
    return range(int(start), int(stop))


def _one(seed: int, loops: list[str]) -> int:
    program = from_seed(seed)
    print(show(program))
    failed = False
    for loop in loops:
        trace: list[str] = []
        with court():
            broken = judge(program, loop, trace=trace)
        print(f"\nOn the loop {loop}:", *trace, sep="\n")
        print(*broken or ["All promises are kept."], sep="\n")
        failed = failed or bool(broken)
    return int(failed)


def _many(seeds: range, loops: list[str], most: int, jobs: int) -> int:
    failed, total = 0, 0
    began = told = time.perf_counter()
    python = ".".join(map(str, sys.version_info[:3]))
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    # (Not forked, in spite of the loops and threads of whoever calls this.)
    with multiprocessing.get_context("spawn").Pool(jobs) if jobs > 1 else contextlib.nullcontext() as pool:
        run = functools.partial(judge_seeds, loops=loops, most=most)
        for chunk, failures in zip(chunks, pool.imap(run, chunks) if pool else map(run, chunks), strict=True):
            failed += len(failures)
            total += len(chunk) * len(loops)
            print(*failures, sep="\n", end="\n" * bool(failures), flush=True)
            if failed >= most:
                print(f"{failed} failed: stopped at seed {chunk.stop}")
                return 1
            if time.perf_counter() - told > 60:
                told = time.perf_counter()
                speed = total / (told - began)
                print(f"... seed {chunk.stop}, {total} runs, {failed} failed, {speed:.0f} a second", flush=True)
    took = time.perf_counter() - began
    print(
        f"Python {python}: seeds {seeds.start}:{seeds.stop} on {', '.join(loops)}: "
        f"{total} runs, {failed} failed, {took:.0f} s"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
