"""How often services were restarted, by their names: what a counter needs, and services that are gone cannot tell."""

from __future__ import annotations

import asyncio

__all__ = ["OTHERS", "Tally"]

# Names that are counted one by one. A program has a few, unless it makes them up as it goes.
MOST = 1000

# The name of all others.
OTHERS = "(others)"


class Tally:
    """The restarts of one loop's services since it began."""

    __slots__ = ("restarts",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.restarts: dict[str, int] = {}

    def count(self, name: str) -> None:
        """Count a restart of the service *name*."""
        name = self.label(name)
        self.restarts[name] = self.restarts.get(name, 0) + 1

    def label(self, name: str) -> str:
        """Return the name that *name* is counted by."""
        return name if name in self.restarts or len(self.restarts) < MOST else OTHERS
