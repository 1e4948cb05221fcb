"""The contests, a module a feature."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.measure import Contest
from benchmarks.rows import dispatch, gathers, imports, patience, services, snapshots, tasks
from benchmarks.rows.workloads import QUICK, SIZES, Sizes

__all__ = ["QUICK", "SIZES", "Sizes", "contests"]


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield every contest there is."""
    for module in (gathers, tasks, patience, services, snapshots, dispatch, imports):
        yield from module.contests(sizes)
