"""What the children of every contest do, and how many there are."""

from __future__ import annotations

import asyncio
import importlib
import socket
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeAlias

__all__ = ["QUICK", "SIZES", "Case", "Sizes", "Work", "cases", "peers", "yields_once"]

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

# Budgets were made for these sizes, and for work that keeps the loop from nothing else.
_BINDING = (100, 10_000)
# Each child that waits on a socket has two of them to itself, and systems allow about a thousand open files.
_MOST_SOCKETS = 400


async def returns_at_once() -> None:
    """Be done without having waited."""


async def yields_once() -> None:
    """Let everything else run once."""
    await asyncio.sleep(0)


_pairs: list[tuple[socket.socket, socket.socket]] = []


async def waits_on_a_socket() -> None:
    """Wait for a byte that comes through a pair of sockets."""
    # Made in the run that is not counted.
    pair = _pairs.pop() if _pairs else _pair()
    loop = asyncio.get_running_loop()
    loop.call_soon(pair[0].send, b"x")
    await loop.sock_recv(pair[1], 1)
    _pairs.append(pair)


def _pair() -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair()
    for end in pair:
        end.setblocking(False)
    return pair


def _close_pairs() -> None:
    while _pairs:
        for end in _pairs.pop():
            end.close()


def peers(*names: str) -> tuple[dict[str, ModuleType], dict[str, str]]:
    """Import the peers, and return those that there are, and for those that there are not a text that says so."""
    found: dict[str, ModuleType] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            found[name] = importlib.import_module(name)
        except ImportError:
            missing[name] = f"{name} is not installed"
    return found, missing


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many children there are, and how many of them wait at a time where that is the point."""

    children: tuple[int, ...]
    few: int
    many: int


SIZES = Sizes(children=(2, 10, 100, 10_000, 100_000), few=1_000, many=100_000)
QUICK = Sizes(children=(10, 100), few=100, many=1_000)


@dataclass(frozen=True, slots=True)
class Case:
    """So many children of one kind."""

    title: str
    work: Work
    count: int

    @property
    def often(self) -> float:
        """How much more often than 10,000 it must run, to last for about as long: a machine has slow seconds."""
        return 0.2 if self.count > 10_000 else min(10.0, max(1.0, 1_000 / self.count))

    @property
    def binding(self) -> bool:
        """Whether budgets hold for it."""
        return self.count in _BINDING and self.work is not waits_on_a_socket


def cases(sizes: Sizes, unit: str, *, budgeted: bool = False) -> Iterator[Case]:
    """Yield each size with each workload; *unit* is what to call the children.

    Where the children come one after the other, other sizes than the *budgeted* ones tell nothing new.
    """
    for count in sizes.children:
        if budgeted and count not in _BINDING:
            continue
        yield Case(f"{count:,} {unit} that return at once", returns_at_once, count)
        yield Case(f"{count:,} {unit} that yield once", yields_once, count)
        if not budgeted and count <= _MOST_SOCKETS:
            try:
                yield Case(f"{count:,} {unit} that wait on a socket", waits_on_a_socket, count)
            finally:
                _close_pairs()
