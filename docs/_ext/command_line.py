"""The directive ``command-line-options``: the options of ``async-plus run``, from the parser itself."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive

from async_plus.cli import _parsers


def setup(app: Any) -> dict[str, Any]:
    """Make the directive known."""
    app.add_directive("command-line-options", Options)
    return {"parallel_read_safe": True}


class Options(Directive):
    """An option list for each group of options."""

    def run(self) -> list[nodes.Node]:
        """Build the lists."""
        return [node for title, options in groups() for node in self._group(title, options)]

    def _group(self, title: str, options: list[tuple[str, str]]) -> list[nodes.Node]:
        caption = nodes.paragraph("", "", nodes.strong(text=title))
        entries = nodes.definition_list(classes=["options"])
        for flag, text in options:
            term = nodes.term("", "", nodes.literal(text=flag))
            entries += nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph(text=text)))
        return [caption, entries]


def groups() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the groups of options of ``async-plus run``, each option as it is written with what it does."""
    _, command = _parsers()
    for group in command._action_groups:
        options = [(_written(action), action.help or "") for action in group._group_actions if action.option_strings]
        if options:
            yield (group.title or "").capitalize(), options


def _written(action: argparse.Action) -> str:
    flags = ", ".join(action.option_strings)
    value = action.metavar or (action.choices and "{" + ",".join(map(str, action.choices)) + "}")
    return f"{flags} {value}" if value else flags
