"""Docstrings as pages: examples as code, and the log line of each event.

The docstrings of the package are written for ``help()``, where an example is only indented. Here each becomes a code
block. What an event's line in the log looks like is taken from the event itself, see `event_lines`.
"""

from __future__ import annotations

import ast
import dataclasses
import logging
import textwrap
from typing import Any

from event_lines import LINES
from sphinx.pycode import ModuleAnalyzer

from async_plus.engine.owned import WARN_AFTER
from async_plus.events import Event


def setup(app: Any) -> dict[str, Any]:
    """Connect to autodoc, before napoleon, which reads the sections."""
    ModuleAnalyzer.analyze = _analyze_without_overloads
    app.connect("autodoc-process-docstring", show_examples, priority=400)
    app.connect("autodoc-process-docstring", show_facts, priority=400)
    app.connect("autodoc-process-docstring", drop_first_version, priority=900)
    app.connect("autodoc-process-signature", tidy_signature)
    return {"parallel_read_safe": True}


_analyze = ModuleAnalyzer.analyze


def _analyze_without_overloads(analyzer: ModuleAnalyzer) -> None:
    # Overloads are for type checkers. Five of them, one below the other, tell a reader nothing; what the pages give
    # instead is what autodoc would overlook.
    _analyze(analyzer)
    analyzer.overloads = {}


def show_examples(app: Any, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Make each indented example of a docstring a code block."""
    at = 0
    while at < len(lines):
        if not _begins_example(lines, at):
            at += 1
            continue
        end = at
        while end < len(lines) and (not lines[end].strip() or lines[end].startswith("    ")):
            end += 1
        language = _language("\n".join(lines[at:end]))
        lines[at:at] = [f".. code-block:: {language}", ""]
        at = end + 2


def _begins_example(lines: list[str], at: int) -> bool:
    if at < 2 or not lines[at].startswith("    ") or lines[at - 1].strip():
        return False
    before = next((line for line in reversed(lines[:at]) if line.strip()), "")
    # After "::" it is one already, and what is indented below a directive or a section belongs to that.
    return not before.startswith((" ", "..")) and not before.endswith("::")


def _language(code: str) -> str:
    try:
        compile(textwrap.dedent(code), "example", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:
        return "text"
    return "python"


def show_facts(app: Any, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Show the fields of a dataclass that does not explain each of them, and the lines of an event in the log."""
    if not (isinstance(obj, type) and dataclasses.is_dataclass(obj)) or obj is Event or "Attributes:" in lines:
        return
    facts = [f"``{field.name}: {field.type}``" for field in dataclasses.fields(obj) if field.name != "level"]
    shown = [f"Fields: {', '.join(facts)}.", ""]
    if issubclass(obj, Event):
        log = [f"   {logging.getLevelName(event.level)} {event}" for event in LINES[obj]]
        shown += [".. code-block:: text", "   :class: log", "", *log, ""]
    at = next((number for number, line in enumerate(lines) if line.startswith(".. version")), len(lines))
    lines[at:at] = shown


def drop_first_version(app: Any, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Leave out that something is there since 1.0: everything is, and the index says so."""
    for at, line in enumerate(lines):
        if line == ".. versionadded:: 1.0" and not "".join(lines[at + 1 :]).strip():
            del lines[at:]


def tidy_signature(
    app: Any, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str, str] | None:
    """Show no parameters of a class that a page gives as ``Child()``: users get its objects, and make none.

    A default is shown as its value, where the code has a name for it.
    """
    if what == "class" and signature == "()":
        return "", ""
    if signature and "WARN_AFTER" in signature:
        return signature.replace("WARN_AFTER", f"{WARN_AFTER:g}"), returns or ""
    return None
