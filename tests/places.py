"""Lines of code, as tests of stacks and logs expect them."""

from __future__ import annotations

import inspect
import re

from async_plus.stacks import Place

ASKS = re.compile(r"\b(at|place)\(")


def place(function, text):
    """The only line of *function* that contains *text*, but for those that ask for it."""
    function = inspect.unwrap(function)
    lines, first = inspect.getsourcelines(function)
    [number] = [number for number, line in enumerate(lines, first) if text in line and not ASKS.search(line)]
    return Place(function.__code__.co_filename, number, function.__name__)


def at(function, text):
    """The line of *function* that contains *text*, as a log line shows it."""
    return str(place(function, text))


def first_line(function):
    """The first line of *function*, as a log line shows it."""
    code = inspect.unwrap(function).__code__
    return f"{code.co_filename}:{code.co_firstlineno} in {code.co_name}"


def functions(found):
    """The names along a chain."""
    return [link.name.rpartition(".")[2] for link in found.links]
