"""The recipe that hangs is found by the command it prints, as docs/howto/hang.rst shows it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import docutils.core
import pytest
from docutils import nodes
from runs import dump_of

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipes"
PAGE = ROOT / "docs" / "howto" / "hang.rst"
LINES = (RECIPES / "find_the_hang.py").read_text().splitlines()


def line_of(text):
    """The number of the only line of the recipe that contains *text*."""
    [number] = [number for number, line in enumerate(LINES, 1) if text in line]
    return number


def at(text, function):
    """The place of that line, as a dump shows it."""
    return f"find_the_hang.py:{line_of(text)} in {function}"


def without_paths(lines):
    """Where the checkout lies is not for the tests to know, nor when a line was logged."""
    return [re.sub(r"^[0-9:]{8} ", "", re.sub(r"[^\s\"]*(?=find_the_hang\.py)", "", line)) for line in lines]


class Hanging:
    """The recipe as a process of its own that has come to where it hangs, and what it has said so far."""

    def __init__(self, process):
        self.process = process
        self.printed = process.stdout.readline()
        # It is deaf to nothing: until it hangs, it tells what it is doing instead.
        dump, self.logged = self._dump()
        while "deadlock" not in "\n".join(dump) or "'read orders'" in "\n".join(dump):
            dump, logged = self._dump()
            self.logged += logged
        self.dump = dump

    def _dump(self):
        self.process.send_signal(signal.SIGUSR1)
        lines = dump_of(self)
        start = next(number for number, line in enumerate(lines) if line.startswith("===== process"))
        return lines[start:], lines[:start]


@pytest.fixture(scope="module")
def hanging():
    command = [sys.executable, "find_the_hang.py"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=RECIPES, text=True, **pipes) as process:
        try:
            yield Hanging(process)
        finally:
            process.kill()


def test_it_prints_the_command_to_type(hanging):
    """With its own process id, so that nobody has to look for it."""
    pid = hanging.process.pid
    assert hanging.printed == f"If it hangs, type in another terminal: kill -USR1 {pid}\n"


def test_the_log_has_told_of_the_producer_when_it_died(hanging):
    """Once, with the line that launched it and the line that failed."""
    lines = without_paths(hanging.logged)

    launched = at("scope.launch(read_orders", "main")
    assert [line for line in lines if "ERROR" in line] == [
        f"ERROR   task 'read orders' failed with ValueError, launched at {launched}"
    ]
    assert f'  File "find_the_hang.py", line {line_of("int(pieces)")}, in read_orders' in lines


def test_one_signal_tells_who_waits_where_and_for_whom(hanging):
    """Both tasks of the deadlock with their lines and the circle they are in, and the consumer with its queue."""
    lines = without_paths(hanging.dump)
    end = lines.index("main thread") - 1

    assert re.fullmatch(rf"===== process {hanging.process.pid} at .*, on SIGUSR1 =====", lines[0])
    assert lines[1:end] == [
        "4 tasks: 4 parked",
        "",
        "deadlock: 'Berlin to Paris' -> 'Paris to Berlin' -> 'Berlin to Paris'",
        "",
        "task_scope 'warehouse'",
        "  'pack orders' (pack_orders) parked on Queue.get",
        f"    {at('in incoming(orders)', 'pack_orders')}",
        f"    {at('orders.get()', 'incoming')}",
        "  'Berlin to Paris' (ship) parked on Lock.acquire, held by 'Paris to Berlin'",
        f"    {at('await move', 'ship')}",
        f"    {at('target.lock', 'move')}",
        "  'Paris to Berlin' (ship) parked on Lock.acquire, held by 'Berlin to Paris'",
        f"    {at('await move', 'ship')}",
        f"    {at('target.lock', 'move')}",
        "",
        "other tasks",
        "  'main' (main) parked on task_scope 'warehouse' of 'pack orders', 'Berlin to Paris',",
        "      'Paris to Berlin'",
        f"    {at('scope.wait', 'main')}",
    ]


def shown(remark):
    """The block of the page that follows the comment *remark*."""
    # The other tests of pages tell whether it is well-formed.
    tree = docutils.core.publish_doctree(PAGE.read_text(), settings_overrides={"report_level": 5, "halt_level": 5})
    found = [*tree.findall(lambda node: isinstance(node, nodes.comment | nodes.literal_block))]
    [block] = [after for node, after in pairwise(found) if node.astext() == remark]
    return block.astext().splitlines()


def loosened(lines):
    """The lines without what differs from process to process and from Python to Python."""
    lines = [re.sub(r"process \d+ at [-0-9]+ [:0-9]+ [-+]\d{4}", "process N at T", line) for line in lines]
    # Where in the loop the main thread is, and marks below a line of code.
    lines = [re.sub(r"^  \S+/python3\S+:\d+ in \w+$", "  LOOP", line) for line in lines]
    return [line for line in without_paths(lines) if line.strip(" ^~")]


def test_the_page_shows_what_the_dump_says(hanging):
    """To the line."""
    assert loosened(hanging.dump) == loosened(shown("recipe: dump"))


def test_the_page_shows_what_the_log_says(hanging):
    """What was there before it hung."""
    assert loosened(hanging.logged) == loosened(shown("recipe: log"))


@pytest.mark.parametrize("tool", ["print_stack", "all_tasks"])
def test_the_page_shows_what_others_say(tool):
    """The very same hang, in the words of asyncio itself; only that long lines are broken on the page."""
    command = [sys.executable, "docs/compare_hang.py", tool]

    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout

    assert " ".join(loosened(said.splitlines())).split() == " ".join(loosened(shown(f"compare: {tool}"))).split()


def test_the_lines_of_the_recipe_that_the_page_quotes_are_those_of_the_recipe():
    """aiomonitor's answer too, which no test asks for again: it would have to be installed, and takes ten seconds."""
    quoted = re.findall(r'File "/app/find_the_hang.py", line (\d+), in \w+\n +(.+)', PAGE.read_text())

    assert len(quoted) > 5
    assert [LINES[int(number) - 1].strip() for number, _ in quoted] == [code for _, code in quoted]
