"""Runs the Python blocks of a page, and compares what they print with what the page says.

The blocks of a page (``.. code-block:: python``) run in order and share their names. One that awaits at its top level
runs on the virtual clock; so does what a block hands to ``asyncio.run``. Comments between blocks steer this:

``.. output``
    The text block that follows is what the last block printed and logged (as ``LEVEL message``, without tracebacks).
    ``...`` stands for anything; paths and line numbers are not compared.
``.. fresh``
    The next block starts without the names of those before it.
``.. no-run``
    The next block is compiled only.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import logging
import re
from pathlib import Path
from types import FunctionType
from typing import Any

import docutils.core
import pytest
from docutils import nodes

from async_plus.testing import VirtualClockLoop


def run_page(page: Path) -> int:
    """Run the Python blocks of *page* and return how many there were."""
    names: dict[str, Any] = {"__name__": page.stem}
    remarks: set[str] = set()
    printed, count = "", 0
    # The pages under docs/ may use Sphinx's own directives. Whether a page is well-formed is for tox's docs to tell.
    settings = {"syntax_highlight": "none", "report_level": 5, "halt_level": 5}
    tree = docutils.core.publish_doctree(page.read_text(), str(page), settings_overrides=settings)
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        for node in tree.findall(lambda found: isinstance(found, nodes.comment | nodes.literal_block)):
            if isinstance(node, nodes.comment):
                remarks.add(node.astext())
            elif "python" in node["classes"]:
                code = _compile(node, page)
                if "fresh" in remarks:
                    names = {"__name__": page.stem}
                if "no-run" not in remarks:
                    printed = _run(code, names, runner)
                remarks, count = set(), count + 1
            elif "output" in remarks:
                _compare(node.astext(), printed, f"{page.name}:{node.line}")
                remarks = set()
        left = asyncio.all_tasks(runner.get_loop())
        assert not left, f"{page.name} leaves tasks running: {sorted(task.get_name() for task in left)}"
    return count


def _compile(node: nodes.Element, page: Path) -> Any:
    # Empty lines before it make tracebacks tell the page's own line numbers.
    source = "\n" * node.line + node.astext()
    return compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def _run(code: Any, names: dict[str, Any], runner: asyncio.Runner) -> str:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(_WithoutTraceback())
    with contextlib.redirect_stdout(said), _logging_to(handler):
        if code.co_flags & inspect.CO_COROUTINE:
            runner.run(FunctionType(code, names)())
        else:
            exec(code, names)
    return said.getvalue()


class _WithoutTraceback(logging.Formatter):
    def format(self, record):
        """Tracebacks differ from Python to Python, and would bury what a page wants to show."""
        return f"{record.levelname} {record.getMessage()}"


@contextlib.contextmanager
def _logging_to(handler: logging.Handler):
    # A block that shows how to set up logging must not set up pytest's.
    root, ours = logging.getLogger(), logging.getLogger("async_plus")
    before = root.level, root.handlers[:], ours.level
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.setLevel(before[0])
        root.handlers[:] = before[1]
        ours.setLevel(before[2])


def _compare(wanted: str, got: str, where: str) -> None:
    wanted, got = _normalised(wanted), _normalised(got)
    if not doctest.OutputChecker().check_output(wanted, got, doctest.ELLIPSIS):
        pytest.fail(f"{where} should print\n{wanted}\nbut prints\n{got}", pytrace=False)


def _normalised(text: str) -> str:
    text = re.sub(r'File "[^"]+", line \d+', 'File "FILE", line N', text)
    text = re.sub(r"[^\s\"]+\.(?:py|rst):\d+", "FILE:N", text)
    return "\n".join(line.rstrip() for line in text.splitlines()).strip() + "\n"
