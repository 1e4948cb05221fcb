"""Every Python block of the pages runs, and prints what the page says it prints. (What steers it: pages.py.)"""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path

import freezegun
import pytest
from pages import run_page

from async_plus.testing import VirtualClockLoop

ROOT = Path(__file__).parent.parent
NAMED = ("README.rst", "CHANGELOG.rst", "CONTRIBUTING.rst")
PAGES = [*(ROOT / name for name in NAMED if (ROOT / name).exists()), *sorted((ROOT / "docs").rglob("*.rst"))]


@pytest.fixture(autouse=True)
def virtual(monkeypatch):
    """Frozen clocks, and a virtual loop for the blocks that call asyncio.run."""
    monkeypatch.setattr(asyncio.events, "new_event_loop", VirtualClockLoop)
    with freezegun.freeze_time("1970-01-02"):
        yield


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_of_the_page_runs(page):
    """What a page shows works as shown."""
    run_page(page)


def block(code: str, language: str = "python") -> str:
    return f".. code-block:: {language}\n\n{textwrap.indent(code, '    ')}\n\n"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (block("from asyncio import *\nawait sleep(9)\n{}[1]"), KeyError, "1"),
        (block("a = 1") + ".. fresh\n\n" + block("a"), NameError, "'a'"),
        (".. no-run\n\n" + block("def"), SyntaxError, "invalid"),
        (block("print(1)") + ".. output\n\n" + block("2", "text"), pytest.fail.Exception, "print\n2\n\nbut"),
        (block("from asyncio import *\na = create_task(sleep(1))\nawait sleep(0)"), AssertionError, "leaves tasks"),
    ],
)
def test_a_block_that_is_wrong_is_found(tmp_path, text, error, message):
    """The check itself works: what a page must not do fails it."""
    page = tmp_path / "page.rst"
    page.write_text(text)

    with pytest.raises(error, match=re.escape(message)):
        run_page(page)


def test_blocks_share_names_and_their_output_is_compared(tmp_path):
    """Prints and log lines are compared in order, without paths and line numbers."""
    page = tmp_path / "page.rst"
    page.write_text(
        block("import asyncio, logging\nwhere = '/home/me/feed.py:12'")
        + block("await asyncio.sleep(3600)\nprint('slept')\nlogging.getLogger('feed').warning('failed at %s', where)")
        + ".. output\n\n"
        + block("slept\nWARNING failed at /app/feed.py:41", "text")
        + block("asyncio.run(asyncio.sleep(3600))")
    )

    assert run_page(page) == 3
