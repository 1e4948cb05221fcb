"""How a program is drawn: one grammar, over whatever makes the choices.

To choose is a function: ``choose(n)`` returns a number below *n*. A seeded generator makes a million programs in no
time; hypothesis makes few, but shrinks the one that fails: it prefers low numbers, so the simplest comes first.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import hypothesis.strategies as st

from .programs import (
    Act,
    Cancel,
    CancelAndWait,
    Child,
    Close,
    Gather,
    Group,
    Impatient,
    Launch,
    Limit,
    Options,
    Order,
    Pause,
    Program,
    Scope,
    ScopeCancel,
    ScopeWait,
    Service,
    Start,
    Supervised,
    Tree,
    WaitFor,
    Watch,
)

_T = TypeVar("_T")

# Children in one program, at most; and structures within each other.
SIZE = 14
DEPTH = 4


class Grammar:
    """Draws the parts of a program.

    Args:
        choose: Makes the choices.
        gathers_only: Draw what `asyncio.gather` and `TaskGroup` can do as well, and nothing else.
    """

    def __init__(self, choose: Callable[[int], int], *, gathers_only: bool = False) -> None:
        self._choose = choose
        self._left = SIZE
        self._gathers_only = gathers_only
        many: list[Callable[[int], Act]] = [self._scope, self._gather, self._supervised, self._tree, self._impatient]
        few: list[Callable[[int], Act]] = [self._watch, self._launch, self._start, self._limit, self._group]
        few += [self._close, self._close]
        self._large = [self._gather, self._gather, self._limit] if gathers_only else many * 2 + few
        self._small = [self._pause, self._pause, self._cancel, self._wait_for]
        if not gathers_only:
            self._small += [self._order, self._cancel_and_wait, self._scope_wait, self._scope_cancel]

    def program(self) -> Program:
        """Draw a whole program."""
        stops = tuple(self._seconds() for _ in range(self._pick(0, 0, 1, 1, 2)))
        counted = bool(self._choose(2))
        acts = tuple(self._act(DEPTH, large=True) for _ in range(1 + self._choose(3)))
        return Program(Child(acts, end="return"), stops, counted)

    def _pick(self, *options: _T) -> _T:
        return options[self._choose(len(options))]

    def _seconds(self) -> float:
        return self._pick(0, 0, 0.25, 0.5, 1, 1, 1.5, 2, 3, 6)

    def _someone(self) -> int:
        return self._choose(12)

    def _acts(self, depth: int, most: int) -> tuple[Act, ...]:
        return tuple(self._act(depth, large=self._choose(3) == 2) for _ in range(self._choose(most + 1)))

    def _act(self, depth: int, *, large: bool) -> Act:
        if large and depth and self._left > 0:
            return self._pick(*self._large)(depth - 1)
        return self._pick(*self._small)()

    def _child(self, depth: int) -> Child:
        self._left -= 1
        return Child(
            acts=self._acts(depth, 2),
            end=self._pick("return", "return", "fail", "fail", "hang", "cancelled"),
            told=self._told(),
            lingers=self._pick(0, 0, 0, 0.5),
        )

    def _told(self) -> Any:
        usual = "stops", "stops", "slowly", "fails", "fails late", "returns", "ignores"
        return self._pick(*usual) if self._gathers_only else self._pick(*usual, "launches", "serves")

    def _children(self, depth: int, most: int = 4) -> tuple[Child, ...]:
        return tuple(self._child(depth) for _ in range(self._choose(most + 1)))

    def _service(self, depth: int) -> Service:
        options = Options(
            delays=self._pick((0,), (1,), (0, 1), (0.5, 2)),
            restart=self._pick("on_error", "on_error", "always", "never"),
            max_restarts=self._pick(None, None, 1, 2),
            reset_after=self._pick(None, None, 0.5),
            heartbeat=self._pick(None, None, 1.5),
            on=self._pick("all", "some"),
        )
        return Service(self._children(depth, 3), options, self._pick(None, None, 0, 0.5))

    # Structures.

    def _scope(self, depth: int, *, body: bool = True) -> Scope:
        return Scope(
            self._children(depth),
            self._acts(depth, 2) if body else (),
            self._pick("leave", "wait", "wait for one", "wait for all", "wait shortly", "cancel", "fail"),
            self._pick(0, 0, 1),
            self._handler(),
            self._caught(),
        )

    def _gather(self, depth: int) -> Act:
        children = self._children(depth)
        if self._gathers_only:
            return Gather(children, caught=self._caught())
        return Gather(
            children,
            self._pick(None, None, 1, 2),
            bool(children) and self._pick(False, False, True),
            self._choose(len(children) + 1) if self._pick(False, True) else 0,
            self._someone() if self._pick(False, False, False, True) else None,
            self._caught(),
        )

    def _supervised(self, depth: int) -> Act:
        return Supervised(self._service(depth), self._caught())

    def _tree(self, depth: int, *, body: bool = True) -> Tree:
        return Tree(
            tuple(self._service(depth) for _ in range(self._choose(4))),
            self._pick("one_for_one", "one_for_all", "rest_for_one"),
            self._acts(depth, 2) if body else (),
            self._pick("wait", "wait", "leave", "fail"),
            self._caught(),
        )

    def _impatient(self, depth: int) -> Act:
        form: Any = self._pick("call", "decorator", "block")
        return Impatient(self._child(depth), form, self._pick(1, 0.5, 2), self._caught())

    def _watch(self, depth: int) -> Act:
        return Watch(self._child(depth), self._handler())

    def _launch(self, depth: int) -> Act:
        return Launch(self._child(depth), self._someone())

    def _start(self, depth: int) -> Act:
        return Start(self._service(depth), self._someone())

    def _close(self, depth: int) -> Act:
        how: Any = self._pick("in the task", "at a yield", "in no task")
        if how == "at a yield":
            block = self._pick(self._scope, self._tree)(depth)
            return Close(replace(block, end="yield"), self._seconds(), how)
        return Close(self._closable(depth, in_task=how == "in the task"), self._seconds(), how)

    def _closable(self, depth: int, *, in_task: bool) -> Any:
        """Draw what waits nowhere but in the library: elsewhere it could not be closed without a wait."""
        large: list[Callable[[], Act]] = [
            lambda: self._gather(depth),
            lambda: self._supervised(depth),
            lambda: self._scope(depth, body=False),
            lambda: self._tree(depth, body=False),
        ]
        if in_task:
            large.append(lambda: self._closable_wait(depth))
        return self._pick(*large, *large, self._cancel_and_wait, self._scope_wait, self._order)()

    def _closable_wait(self, depth: int) -> Act:
        self._left -= 1
        acts: tuple[Act, ...] = tuple(
            self._closable(depth - 1, in_task=True) if depth and self._left > 0 else self._pause()
            for _ in range(self._choose(3))
        )
        child = Child(acts, self._pick("return", "fail", "hang", "hang", "cancelled"), self._told())
        form: Any = self._pick("call", "decorator", "block")
        return Impatient(child, form, self._pick(1, 0.5, 2), self._caught())

    def _limit(self, depth: int) -> Act:
        return Limit(self._seconds(), (*self._acts(depth, 2), self._act(depth, large=True)))

    def _group(self, depth: int) -> Act:
        return Group(self._seconds(), (*self._acts(depth, 2), self._act(depth, large=True)))

    def _handler(self) -> Any:
        return self._pick("none", "none", "takes", "raises")

    def _caught(self) -> bool:
        return self._pick(True, False)

    # Single steps.

    def _pause(self) -> Act:
        return Pause(self._seconds())

    def _cancel(self) -> Act:
        return Cancel(self._someone())

    def _wait_for(self) -> Act:
        return WaitFor(self._someone())

    def _order(self) -> Act:
        return Order(self._pick("restart", "stop", "wait"), self._someone())

    def _cancel_and_wait(self) -> Act:
        picks = tuple(self._someone() for _ in range(self._pick(1, 2, 0)))
        return CancelAndWait(picks, Child(end="hang", told=self._told()) if self._pick(False, True) else None)

    def _scope_wait(self) -> Act:
        return ScopeWait(
            self._someone(),
            self._pick("FIRST_EXCEPTION", "FIRST_COMPLETED", "ALL_COMPLETED"),
            self._pick(None, 0.5, 2),
        )

    def _scope_cancel(self) -> Act:
        return ScopeCancel(self._someone())


def from_seed(seed: int, *, gathers_only: bool = False) -> Program:
    """Draw the program of a number: the same one on each Python."""
    return Grammar(random.Random(seed).randrange, gathers_only=gathers_only).program()


@st.composite
def programs(draw: Callable[[st.SearchStrategy[int]], int]) -> Program:
    """Draw programs by hypothesis."""
    return Grammar(lambda n: draw(st.integers(0, n - 1))).program()
