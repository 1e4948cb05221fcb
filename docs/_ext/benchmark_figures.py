"""The directive ``benchmark-figures``: tables of what ``python -m benchmarks --json`` wrote to ``docs/_data``.

Nothing on the page is copied by hand, so it cannot differ from what was measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from docutils import nodes
from docutils.parsers.rst import Directive

__all__ = ["FIGURES", "load"]

_DATA = Path(__file__).parent.parent / "_data"

# What was measured, by the version of Python: "3.13", the oldest first.
Documents: TypeAlias = dict[str, Any]
Cells: TypeAlias = Sequence[Sequence[str]]


class _Missed(str):
    """The text of a cell that is over its budget."""


def setup(app: Any) -> dict[str, Any]:
    """Make the directive known."""
    app.add_directive("benchmark-figures", Figures)
    return {"parallel_read_safe": True}


class Figures(Directive):
    """A table, or a sentence, of the kind that is its argument."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Build it."""
        make = FIGURES.get(self.arguments[0])
        if make is None:
            raise self.error(f"figures are of {', '.join(FIGURES)}, and not of {self.arguments[0]!r}")
        self.state.document.settings.record_dependencies.add(*map(str, _files()))
        made = make(load())
        return [nodes.paragraph(text=made) if isinstance(made, str) else _table(made)]


def load() -> Documents:
    """Read all that was measured."""
    documents = [json.loads(path.read_text()) for path in _files()]
    return {_version(document): document for document in documents}


def _files() -> list[Path]:
    return sorted(_DATA.glob("benchmarks-*.json"))


def _version(document: Any) -> str:
    return ".".join(document["setting"]["python"].split()[1].split(".")[:2])


def _newest(documents: Documents) -> Any:
    return documents[list(documents)[-1]]


def _budgets(documents: Documents) -> Cells:
    """Each ratio that has a budget: the least and the most of it, on each Python."""
    ratios: dict[tuple[str, float], dict[str, list[float]]] = {}
    for version, document in documents.items():
        for row in document["rows"]:
            if row["kept"] is not None:
                ratios.setdefault((row["name"], row["budget"]), {}).setdefault(version, []).append(row["ratio"])
    return [
        ("ours / theirs", "at most", *documents),
        *(
            (name, f"{budget:g}", *(_span(found.get(version, []), budget) for version in documents))
            for (name, budget), found in ratios.items()
        ),
    ]


def _sizes(documents: Documents) -> Cells:
    """The ratios of children that yield once, by how many there are, where there are more sizes than two."""
    ratios: dict[str, dict[int, float]] = {}
    for row in _newest(documents)["rows"]:
        if row["case"].endswith("that yield once") and row["ratio"] is not None and row["loop"] == "default":
            ratios.setdefault(row["name"], {})[row["count"]] = row["ratio"]
    sizes = sorted({count for found in ratios.values() for count in found})
    return [
        ("ours / theirs", *(f"{size:,}" for size in sizes)),
        *(
            (name, *(_ratio(found.get(size)) for size in sizes))
            for name, found in ratios.items()
            if len(found) == len(sizes)
        ),
    ]


def _loops(documents: Documents) -> Cells:
    """The same ratios on every loop, 100 children that yield once."""
    ratios: dict[str, dict[str, float]] = {}
    loops: dict[str, None] = {}
    for row in _newest(documents)["rows"]:
        if row["count"] == 100 and row["case"].endswith("that yield once") and row["ratio"] is not None:
            loops[row["loop"]] = None
            ratios.setdefault(row["name"], {})[row["loop"]] = row["ratio"]
    return [
        ("ours / theirs", *loops),
        *((name, *(_ratio(found.get(loop)) for loop in loops)) for name, found in ratios.items() if len(found) > 1),
    ]


def _growth(what: str, unit: str, factor: float, form: str, least: int) -> Callable[[Documents], Cells]:
    def cells(documents: Documents) -> Cells:
        points = {(point["curve"], point["count"]): point[what] * factor for point in _newest(documents)["growth"]}
        curves = [curve for curve, count in points if count == 10]
        sizes = sorted({count for curve, count in points if curve in curves and count >= least})
        return [
            (f"{unit} of one task", *(f"{size:,}" for size in sizes)),
            *((curve, *(format(points[curve, size], form) for size in sizes)) for curve in curves),
        ]

    return cells


def _rest(documents: Documents) -> str:
    points = {point["curve"]: point for point in _newest(documents)["growth"]}
    services, through = points["services at rest"], points["through one scope"]
    left = through["bytes"] * through["count"]
    return (
        f"{services['count']:,} supervised services at rest take {services['bytes'] / 1e3:.1f} kB each. "
        f"{through['count']:,} tasks that go through one scope, 1,000 at a time, leave the process {left / 1e6:.1f} MB "
        "larger, all in all."
    )


def _storms(documents: Documents) -> Cells:
    return [
        ("log", "random_shift", "when they fail", "when they restart"),
        *(
            (
                storm["log"],
                f"{storm['random_shift']:g} s",
                _milliseconds(storm["failure"]),
                _milliseconds(storm["restart"]),
            )
            for storm in _newest(documents)["storms"]
            if storm["loop"] == "default"
        ),
    ]


def _peers(documents: Documents) -> Cells:
    """What a peer does not do that we do, once for each."""
    found = {row["name"]: row["less"] for row in _newest(documents)["rows"] if row["less"]}
    return [
        ("peer", "beside", "what it does, or does not"),
        *((peer, ours, text) for name, text in found.items() for ours, peer in [name.split(" / ")]),
    ]


def _machine(documents: Documents) -> str:
    pythons = [document["setting"]["python"].removeprefix("CPython ") for document in documents.values()]
    last, rounds = _newest(documents)["setting"], _newest(documents)["rounds"]
    others = ("python", "platform", "async_plus", "cores", "load")
    peers = ", ".join(f"{name} {version}" for name, version in last.items() if name not in others)
    return (
        f"CPython {' and '.join(pythons)} on {last['cores']} cores, {last['platform'].split('-')[0]}; {rounds} rounds "
        f"of each contest, more of the short ones and fewer of the long ones; {peers}. "
        f"Growth, storms and charts are those of {pythons[-1]}."
    )


def _span(ratios: Sequence[float], budget: float) -> str:
    if not ratios:
        return "\N{EN DASH}"
    least, most = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
    text = least if least == most else f"{least} to {most}"
    return text if max(ratios) <= budget else _Missed(text)


def _ratio(ratio: float | None) -> str:
    return "\N{EN DASH}" if ratio is None else f"{ratio:.2f}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f} ms"


FIGURES: dict[str, Callable[[Documents], Cells | str]] = {
    "budgets": _budgets,
    "sizes": _sizes,
    "loops": _loops,
    "time": _growth("seconds", "microseconds", 1e6, ".1f", 0),
    "memory": _growth("bytes", "bytes", 1, ",.0f", 10_000),
    "rest": _rest,
    "storms": _storms,
    "peers": _peers,
    "machine": _machine,
}


def _table(cells: Cells) -> nodes.table:
    head, *rows = cells
    group = nodes.tgroup(cols=len(head))
    for index in range(len(head)):
        group += nodes.colspec(colwidth=max(len(row[index]) for row in cells))
    group += nodes.thead("", _row(head))
    group += nodes.tbody("", *map(_row, rows))
    return nodes.table("", group)


def _row(cells: Sequence[str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", _cell(cell)) for cell in cells))


def _cell(text: str) -> nodes.paragraph:
    return nodes.paragraph("", "", nodes.strong(text=text)) if isinstance(text, _Missed) else nodes.paragraph(text=text)
