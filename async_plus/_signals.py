"""Signals as arguments."""

from __future__ import annotations

import signal

from async_plus import _checks

__all__ = ["SIGUSR1", "check_signal", "signal_name"]

# Windows has none.
SIGUSR1: int | None = getattr(signal, "SIGUSR1", None)

_NEVER_HANDLED = {getattr(signal, name, None) for name in ("SIGKILL", "SIGSTOP")}


def check_signal(name: str, value: object) -> int:
    """Return *value* as the number of a signal.

    Raises:
        TypeError: It is not a number.
        ValueError: It is no signal that a program can handle.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a signal such as signal.SIGUSR1, got {_checks.kind(value)}")
    if value not in signal.valid_signals():
        raise ValueError(f"{name} must be a signal of this system, got {value}")
    if value in _NEVER_HANDLED:
        raise ValueError(f"{name} must be a signal that a program can handle, got {signal_name(value)}")
    return value


def signal_name(signum: int) -> str:
    """Return the name of a signal; a real-time signal has a number only."""
    return signal.Signals(signum).name if signum in set(signal.Signals) else f"signal {signum}"
