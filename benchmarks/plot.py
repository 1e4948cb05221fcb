"""Charts of what was measured, as SVG: bars for the peers, curves for what grows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
# No date and no random names: the same figures make the same file. Text stays text.
matplotlib.rcParams.update({"svg.hashsalt": "async_plus", "svg.fonttype": "none", "font.size": 10})

import matplotlib.pyplot as plt  # noqa: E402  # after the choice of how it draws

from benchmarks.growth import Point  # noqa: E402
from benchmarks.measure import DEFAULT, Result  # noqa: E402

__all__ = ["draw"]

# Between light and dark, to be read on pages of either colour; the charts have no background of their own.
_INK = "#7d8590"
_OURS = "#2f81f7"
_THEIRS = "#a3abb5"
_LIMIT = "#e5534b"
_COLOURS = {
    "try_gather": _OURS,
    "task_scope": "#3fa45b",
    "impatient waits": "#b07fe0",
    "asyncio.gather": "#d18616",
    "TaskGroup": "#c05fa0",
    "bare limit": _LIMIT,
}
_OF_OURS = ("try_gather", "task_scope", "launch_watched", "cancel_and_wait", "snapshot", "@", "impatient", "ours")
# Of the sizes of a group, the one that is shown.
_SHOWN = 100
# Where curves of memory begin.
_LARGE = 10_000


def draw(folder: Path, results: Sequence[Result], points: Sequence[Point]) -> Iterator[Path]:
    """Draw a chart for each group of contests on the default loop, and the two of the growth; yield their files."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = dict.fromkeys(result.group for result in results if result.group and result.loop == DEFAULT)
    for group in groups:
        figure = _bars(group, [result for result in results if result.group == group and result.loop == DEFAULT])
        if figure is not None:
            yield _save(figure, folder / f"bench-{group.lower().replace(' ', '-')}.svg")
    if points:
        yield _save(_growth(points, "seconds", 1e6, "microseconds of one task"), folder / "bench-growth-time.svg")
    # Of fewer, the pages that the system hands out are larger than all the tasks.
    large = [point for point in points if point.count >= _LARGE and point.curve in _COLOURS]
    if large:
        yield _save(_growth(large, "bytes", 1.0, "bytes of one task"), folder / "bench-growth-memory.svg")


def _bars(group: str, results: Iterable[Result]) -> Any:
    """One row of bars for each workload, of the size that is nearest to the one shown."""
    cases: dict[str, dict[str, float]] = {}
    count_of: dict[str, int] = {}
    limit = ""
    for result in results:
        if result.seconds:
            per_call = {side: seconds / result.count * 1e6 for side, seconds in result.seconds.items()}
            cases.setdefault(result.case, {}).update(per_call)
            count_of[result.case] = result.count
            limit = result.limit
    if not cases:
        return None
    shown = min(count_of.values(), key=lambda count: abs(count - _SHOWN))
    panels = [case for case, count in count_of.items() if count == shown]
    sides = max(len(cases[case]) for case in panels)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.2 * len(panels), 0.34 * sides + 1.1), squeeze=False, layout="constrained"
    )
    for axis, case in zip(axes[0], panels, strict=True):
        bars = {side: value for side, value in cases[case].items() if side != limit}
        names = sorted(bars, key=lambda side: -bars[side])
        colours = [_OURS if name.startswith(_OF_OURS) or name in ("heartbeat", "ready") else _THEIRS for name in names]
        drawn = axis.barh(names, [bars[name] for name in names], color=colours, height=0.66)
        axis.bar_label(drawn, fmt="%.2f", padding=3, color=_INK, fontsize=9)
        if limit in cases[case]:
            axis.axvline(cases[case][limit], color=_LIMIT, linestyle="--", linewidth=1.4)
            axis.text(
                cases[case][limit],
                1.0,
                f" {limit} {cases[case][limit]:.2f}",
                color=_LIMIT,
                fontsize=9,
                va="bottom",
                ha="left" if cases[case][limit] < max(bars.values()) / 2 else "right",
                transform=axis.get_xaxis_transform(),
            )
        axis.set_xlim(0, max(bars.values()) * 1.18)
        axis.set_title(case, color=_INK, fontsize=10, pad=16)
        axis.set_xlabel("microseconds each", color=_INK, fontsize=9)
        _tone(axis)
    return figure


def _growth(points: Sequence[Point], what: str, factor: float, label: str) -> Any:
    figure, axis = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
    for curve, colour in _COLOURS.items():
        own = [point for point in points if point.curve == curve and getattr(point, what) > 0]
        style = "--" if curve == "bare limit" else "-"
        values = [getattr(point, what) * factor for point in own]
        axis.plot([point.count for point in own], values, style, marker="o", markersize=4, color=colour, label=curve)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("tasks", color=_INK)
    axis.set_ylabel(label, color=_INK)
    axis.yaxis.set_major_formatter("{x:,g}")
    axis.yaxis.set_minor_formatter("{x:,g}")
    axis.grid(color=_INK, alpha=0.25, which="both", linewidth=0.6)
    figure.legend(loc="outside upper center", frameon=False, labelcolor=_INK, fontsize=9, ncols=3)
    _tone(axis)
    return figure


def _tone(axis: Any) -> None:
    axis.tick_params(colors=_INK, labelsize=9, which="both")
    for name, spine in axis.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(_INK)
    axis.set_facecolor("none")


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(figure)
    # As the editors of this repository want text files to end.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    return path
