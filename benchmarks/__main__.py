"""The command line of the benchmarks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import async_plus
from benchmarks import growth
from benchmarks.measure import DEFAULT, LOOPS, Ratio, measure
from benchmarks.report import Table, setting, write_json
from benchmarks.rows import QUICK, SIZES, contests
from benchmarks.storm import Storm, storms

_DESCRIPTION = "Measure async_plus against its peers, as ratios with budgets. Exits with 1 if one is missed."

# Below the root of the checkout.
_CHARTS = Path(__file__).parent.parent / "docs" / "_static"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what *arguments* ask for, and return the exit status."""
    options = _parser().parse_args(arguments)
    rounds: int = options.rounds or (1 if options.quick else 20)
    sizes = QUICK if options.quick else SIZES
    extent = growth.QUICK if options.quick else growth.FULL
    loops: list[str] = options.loop or list(LOOPS)

    def wanted(ratio: Ratio) -> bool:
        return not options.only or any(part.casefold() in ratio.name.casefold() for part in options.only)

    steps = sum(1 for loop in loops for _ in contests(sizes, loop))
    points: list[growth.Point] = []
    flurries: list[Storm] = []
    results = []
    print("  ".join(f"{name}: {value}" for name, value in setting().items()), f" in {Path(async_plus.__file__).parent}")
    with Table(steps) as table:
        table.head()
        for loop in loops:
            for contest in contests(sizes, loop):
                table.begin(f"{contest.group} on {loop}: {contest.case}")
                for result in measure(contest, rounds, wanted, loop):
                    results.append(result)
                    table.row(result)
                table.end()
        if not results:
            print(f"no row is called anything like {' or '.join(options.only)}", file=sys.stderr)
            return 2
        if not options.only:
            table.title("As the work grows")
            table.begin("As the work grows")
            for point in growth.curves(extent):
                points.append(point)
                table.point(point)
            table.title("Worst lag of the loop when all services fail together, and when they restart")
            table.begin("Storms of restarts")
            for storm in storms(extent.services, min(rounds, 3)):
                flurries.append(storm)
                table.storm(storm)
        table.foot(results)
    if options.json is not None:
        write_json(options.json, rounds, results, points, flurries)
    if options.plot is not None:
        # matplotlib takes longer to import than all the rest.
        from benchmarks.plot import draw

        for path in draw(options.plot, results, points):
            print(f"drawn: {path}")
    return int(any(result.kept is False for result in results) and not options.quick)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=_DESCRIPTION)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round of small sizes, to see that all of it works; a missed budget is then no failure",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="only rows with NAME in their name; may be repeated"
    )
    parser.add_argument(
        "--loop", action="append", choices=list(LOOPS), help=f"only on this loop; may be repeated ({DEFAULT}: budgets)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the results to FILE as well (- for standard output)")
    parser.add_argument(
        "--plot", nargs="?", const=_CHARTS, type=Path, metavar="FOLDER", help="draw charts (default docs/_static)"
    )
    parser.add_argument("--rounds", type=_positive, metavar="N", help="rounds per contest (default 20, with --quick 1)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


if __name__ == "__main__":
    sys.exit(main())
