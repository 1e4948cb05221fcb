"""The decorators. Each one is thin: it wraps a coroutine function around a call into the floors below."""

from __future__ import annotations

from async_plus.decorators.entry import entry_point
from async_plus.decorators.impatience import impatient
from async_plus.decorators.supervising import supervised
from async_plus.decorators.watching import watched

__all__ = ["entry_point", "impatient", "supervised", "watched"]
