"""The pages under docs/ keep up with the code: names, signatures, events, options, diagrams.

Whether they build is for tox's docs to tell, which has Sphinx.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import logging
import re
import sys
from pathlib import Path

import pytest

import async_plus
import async_plus.cli
import async_plus.prometheus
import async_plus.testing
from async_plus import ChildState, events
from async_plus.runner.exits import WOULD_NOT_STOP

DOCS = Path(__file__).parent.parent / "docs"
REFERENCE = {page.stem: page.read_text() for page in sorted((DOCS / "reference").glob("*.rst"))}
# Each name that a page describes, and the signature that the page gives for it, if it does.
ENTRIES = [
    (f"{(current or ['async_plus'])[-1]}.{name}" if "." not in name else name, signature)
    for text in REFERENCE.values()
    for current in [re.findall(r"^\.\. currentmodule:: (\S+)$", text, re.M)]
    for name, signature in re.findall(r"^\.\. auto\w+:: ([\w.]+)(\(.*\))?$", text, re.M)
]
DIAGRAMS = sorted((DOCS / "_diagrams").glob("*.dot"))


@pytest.fixture
def load(monkeypatch):
    """Import a module of the pages' own."""
    monkeypatch.syspath_prepend(DOCS / "_ext")
    monkeypatch.syspath_prepend(DOCS / "_diagrams")

    def load(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


@pytest.mark.parametrize("module", [async_plus, async_plus.prometheus, async_plus.testing], ids=lambda it: it.__name__)
def test_every_public_name_has_one_entry_in_the_reference(module):
    """Whoever reads a name in somebody's code finds it there."""
    described = [name for name, _ in ENTRIES if name.rpartition(".")[0] == module.__name__]

    assert sorted(described) == [f"{module.__name__}.{name}" for name in sorted(module.__all__)]


@pytest.mark.parametrize(("name", "written"), [entry for entry in ENTRIES if len(entry[1]) > 2])
def test_a_signature_that_a_page_writes_out_is_the_true_one(name, written):
    """Parameters, their kinds and defaults: overloaded functions have no single signature to be taken from."""
    module, _, function = name.rpartition(".")
    real = inspect.signature(getattr(sys.modules[module], function))

    [shown] = ast.parse(f"def f{written}: ...").body
    names: dict[str, object] = {"SIGUSR1": async_plus.cli.SIGUSR1}
    exec(compile(ast.Module([shown], []), name, "exec"), names)
    facts = [(p.name, p.kind, p.default) for p in inspect.signature(names["f"]).parameters.values()]
    expected = [(p.name, p.kind, p.default) for p in real.parameters.values()]
    if name == "async_plus.impatient":
        # What it is without an awaitable, nobody has to know.
        facts, expected = facts[1:], expected[1:]
    assert facts == expected


def test_every_event_shows_what_its_log_line_looks_like(load):
    """The page of events makes its lines from examples, which can be written."""
    lines = load("event_lines").LINES

    assert {kind.__name__ for kind in lines} == {
        name
        for name in events.__all__
        if isinstance(kind := getattr(events, name), type) and issubclass(kind, events.Event)
    } - {"Event"}
    assert all(str(event) for examples in lines.values() for event in examples)


def test_the_log_on_the_first_page_is_what_the_events_say(load):
    """Its program runs for ever on feeds that are not there, so no test can make it log that."""
    examples = [event for examples in load("event_lines").LINES.values() for event in examples]
    said = [f"{logging.getLevelName(event.level)} {event}" for event in examples]

    shown = re.findall(r"^    (WARNING .*)$", (DOCS / "index.rst").read_text(), re.M)
    assert len(shown) == 4
    assert [line for line in shown if line not in said] == []


def test_every_option_of_the_command_line_is_shown(load):
    """Those of a policy and those of the process, each with what it does."""
    groups = dict(load("command_line").groups())

    assert list(groups) == ["Options", "Restarts", "Process"]
    restarts = [written.partition(" ")[0] for written, _ in groups["Restarts"]]
    assert restarts == [async_plus.cli._flag(option) for option in async_plus.cli.POLICY_FLAGS]
    assert ("--grace SECONDS", "to stop, once it is cancelled (default: 10)") in groups["Process"]
    assert all(text for options in groups.values() for _, text in options)


def test_every_figure_of_the_benchmarks_comes_from_what_was_measured(load):
    """The tables of the page are made of the files that the benchmarks have written, and are as wide as their heads."""
    page = (DOCS / "explanation" / "benchmarks.rst").read_text()
    figures = load("benchmark_figures")
    measured = figures.load()

    assert list(measured) == ["3.11", "3.13"]
    assert re.findall(r"^\.\. benchmark-figures:: (\w+)$", page, re.M) == [*figures.FIGURES]
    for make in figures.FIGURES.values():
        made = make(measured)
        if not isinstance(made, str):
            head, *rows = made
            assert rows
            assert {len(row) for row in rows} == {len(head)}


def test_every_state_and_the_special_exit_code_are_explained():
    """The words that logs, snapshots and probes use."""
    rows = re.findall(r"^   \* - ``(\w+)``$", REFERENCE["services"], re.M)

    assert rows == [state.value for state in ChildState]
    assert re.search(rf"^     - {WOULD_NOT_STOP}, after one CRITICAL line", REFERENCE["program"], re.M)


async def test_every_metric_is_explained():
    """The page takes its text from the collector."""
    collector = async_plus.prometheus.SupervisionCollector()
    explained = re.findall(r"``(async_plus\w+?)(?:_total)?(?:\{name\})?``", inspect.getdoc(type(collector)))

    assert explained == [metric.name for metric in collector.describe()]


@pytest.mark.parametrize("page", ["README.rst", "CHANGELOG.rst", "CONTRIBUTING.rst"])
def test_the_files_that_are_named_exist(page):
    """Whoever reads that there is more in a file finds it there."""
    root = DOCS.parent

    named = re.findall(r"``((?:docs|recipes|tests)/[\w./]*|\w+\.rst)``", (root / page).read_text())
    assert named
    assert [name for name in named if not (root / name).exists()] == []


@pytest.mark.parametrize("page", ["README.rst", "CHANGELOG.rst"])
def test_what_the_package_index_shows_links_to_no_file(page):
    """Files are not there: a relative link, which works in a checkout, would lead nowhere."""
    assert re.findall(r"<(?!https://)[^ <>`]+>`_", (DOCS.parent / page).read_text()) == []


@pytest.mark.parametrize("source", DIAGRAMS, ids=lambda source: source.stem)
def test_a_diagram_is_the_one_that_its_source_describes(load, source):
    """Whoever changes a source renders it again: python docs/_diagrams/render.py."""
    svg = source.with_suffix(".svg").read_text()

    assert svg.startswith(f"<!-- {source.name} {load('render').digest(source)} -->\n")
