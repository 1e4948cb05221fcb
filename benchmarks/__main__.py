"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.measure import Ratio, measure
from benchmarks.report import Table, setting, write_json
from benchmarks.rows import QUICK, SIZES, contests

_DESCRIPTION = "Measure async_plus against its peers, as ratios with budgets. Exits with 1 if one is missed."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what *arguments* ask for, and return the exit status."""
    options = _parser().parse_args(arguments)
    rounds: int = options.rounds or (2 if options.quick else 20)

    def wanted(ratio: Ratio) -> bool:
        return not options.only or any(part.casefold() in ratio.name.casefold() for part in options.only)

    table = Table()
    print("  ".join(f"{name}: {value}" for name, value in setting().items()))
    table.head()
    results = []
    for contest in contests(QUICK if options.quick else SIZES):
        for result in measure(contest, rounds, wanted):
            results.append(result)
            table.row(result)
    if not results:
        print(f"no row is called anything like {' or '.join(options.only)}", file=sys.stderr)
        return 2
    table.foot(results)
    if options.json is not None:
        write_json(options.json, rounds, results)
    return int(any(result.kept is False for result in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=_DESCRIPTION)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller sizes: a glance, not a verdict")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="only rows with NAME in their name; may be repeated"
    )
    parser.add_argument("--json", metavar="FILE", help="write the results to FILE as well (- for standard output)")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="rounds per contest (default 20, with --quick 2)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
