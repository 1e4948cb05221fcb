"""Who raised what, and where it surfaced. It keeps numbers only: to keep an exception would keep its frames."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

from async_plus import Hung, UnexpectedCancellation


class Boom(Exception):  # noqa: N818
    """What goes wrong in a program."""

    def __init__(self, serial: int) -> None:
        super().__init__(serial)
        self.serial = serial


class Ledger:
    """Counts how often each exception was raised out, reported, or handed to its handler."""

    def __init__(self) -> None:
        self._serials = itertools.count(1)
        self._origins: dict[int, str] = {}
        self._surfaced: Counter[int] = Counter()
        # Those that more than one may see: somebody else was given the task, or asked for what failed.
        self._shared: set[int] = set()

    def boom(self, origin: str) -> Boom:
        """Return a new exception, which must surface once."""
        return Boom(self._register(origin))

    def _register(self, origin: str) -> int:
        serial = next(self._serials)
        self._origins[serial] = origin
        return serial

    def serials(self, exc: BaseException | None) -> list[int]:
        """Return the numbers of *exc*, or of its leaves. One that the library made gets a number at first sight."""
        if exc is None or isinstance(exc, (asyncio.CancelledError, GeneratorExit)):
            return []
        if isinstance(exc, BaseExceptionGroup):
            return [serial for part in exc.exceptions for serial in self.serials(part)]
        if not hasattr(exc, "serial"):
            exc.serial = self._register(type(exc).__name__)
        found = [exc.serial]
        if isinstance(exc, (Hung, UnexpectedCancellation)):
            # It stands for what the attempt ended in.
            found += self.serials(exc.__cause__)
        return found

    def surfaced(self, exc: BaseException | None) -> None:
        """Note that *exc* was seen by whom it concerns."""
        self._surfaced.update(self.serials(exc))

    def superseded(self, serials: list[int], cancelled: asyncio.CancelledError) -> None:
        """Note that the errors of a block went with the cancellation that overtook them, as its context."""
        kept = self.serials(cancelled.__context__)
        self._surfaced.update(serial for serial in serials if serial in kept)

    def share(self, serials: list[int]) -> None:
        """Let these surface more than once."""
        self._shared.update(serials)

    def lost(self) -> list[str]:
        """Return those that surfaced nowhere."""
        return [f"{serial} of {origin}" for serial, origin in self._origins.items() if not self._surfaced[serial]]

    def doubled(self) -> list[str]:
        """Return those that surfaced more often than once."""
        return [
            f"{serial} of {self._origins[serial]}: {count} times"
            for serial, count in self._surfaced.items()
            if count > 1 and serial not in self._shared
        ]
