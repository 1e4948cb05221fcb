"""Who waits for whom, in a circle."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from async_plus.diagnostics.blocks import Locks
from async_plus.diagnostics.sights import Shape, Sight

__all__ = ["cycles_of", "order"]

# Thousands of tasks may be in circles with each other. A few show what is wrong.
_MAX_CYCLES = 10


@dataclass(slots=True)
class _Waits:
    """What somebody waits for: all of these, or one of them."""

    sights: list[Sight]
    is_one_enough: bool

    def may_go_on(self, stuck: int) -> bool:
        """Tell whether the wait can end although *stuck* of those waited for are."""
        return stuck < len(self.sights) if self.is_one_enough else not stuck


def order(name: str) -> tuple[int, str]:
    """Sort names so that Task-9 comes before Task-10."""
    return len(name), name


def cycles_of(shapes: Iterable[Shape], locks: Locks) -> list[list[Sight]]:
    """Find tasks of which each waits for the next one, and the last one for the first."""
    stuck = _stuck(_edges(shapes, locks))
    found: list[list[Sight]] = []
    covered: set[Sight] = set()
    for sight in sorted(stuck, key=_by_name):
        if sight not in covered and len(found) < _MAX_CYCLES:
            cycle = _shortest(sight, stuck)
            covered.update(cycle)
            if cycle:
                # Wherever one begins, it is the same circle.
                first = cycle.index(min(cycle, key=_by_name))
                found.append(cycle[first:] + cycle[:first])
    return found


def _by_name(sight: Sight) -> tuple[int, str]:
    return order(sight.name)


def _edges(shapes: Iterable[Shape], locks: Locks) -> dict[Sight, _Waits]:
    shapes = list(shapes)
    edges = {sight: _Waits(holders, is_one_enough=True) for sight, holders in locks.waits()}
    waits = [found for shape in shapes for found in shape.waiting()]
    if waits:
        sights = {id(sight.task): sight for shape in shapes for sight in shape.sights}
        for sight, tasks, is_one_enough in waits:
            known = [sights[id(task)] for task in tasks if id(task) in sights]
            # One that was not seen may end, and if one is enough, that is it.
            # On 3.11, who is in wait_for waits for a task of asyncio's as well, and that one for the lock.
            if known and sight not in edges and (len(known) == len(tasks) or not is_one_enough):
                edges[sight] = _Waits(known, is_one_enough)
    return edges


def _stuck(edges: Mapping[Sight, _Waits]) -> dict[Sight, list[Sight]]:
    """Return those that cannot go on unless another one of them does, with those of these that they wait for.

    Left out are those for whom none of them waits: they are in no circle.
    """
    stuck = dict(edges)
    waiters: dict[Sight, list[Sight]] = {sight: [] for sight in edges}
    for sight, waits in edges.items():
        for other in waits.sights:
            if other in edges:
                waiters[other].append(sight)
    # Whoever waits for none of them goes on some day, and then perhaps somebody who waits for him.
    left = {sight: sum(other in edges for other in waits.sights) for sight, waits in edges.items()}
    todo = [sight for sight, waits in edges.items() if waits.may_go_on(left[sight])]
    while todo:
        free = todo.pop()
        if stuck.pop(free, None) is not None:
            for sight in waiters[free]:
                left[sight] -= 1
                if edges[sight].may_go_on(left[sight]):
                    todo.append(sight)
    awaited = {sight: sum(other in stuck for other in waiters[sight]) for sight in stuck}
    todo = [sight for sight in stuck if not awaited[sight]]
    while todo:
        for other in stuck.pop(todo.pop()).sights:
            if other in stuck:
                awaited[other] -= 1
                if not awaited[other]:
                    todo.append(other)
    # In order, so that two looks at the same circles are the same.
    return {sight: sorted(filter(stuck.__contains__, waits.sights), key=_by_name) for sight, waits in stuck.items()}


def _shortest(start: Sight, edges: Mapping[Sight, list[Sight]]) -> list[Sight]:
    """Return the shortest way from *start* back to it; nothing if there is none."""
    came_from: dict[Sight, Sight] = {}
    todo = deque([start])
    while todo:
        sight = todo.popleft()
        for other in edges[sight]:
            if other is start:
                cycle = [sight]
                while cycle[-1] is not start:
                    cycle.append(came_from[cycle[-1]])
                return cycle[::-1]
            if other not in came_from:
                came_from[other] = sight
                todo.append(other)
    return []
