"""The contests, a module a feature."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.measure import DEFAULT, Contest
from benchmarks.rows import cancelling, dispatch, gathers, imports, patience, services, snapshots, tasks
from benchmarks.rows.workloads import QUICK, SIZES, Sizes

__all__ = ["QUICK", "SIZES", "Sizes", "contests"]


def contests(sizes: Sizes, loop: str = DEFAULT) -> Iterator[Contest]:
    """Yield every contest there is; for another *loop* than the default one, those in which the loop matters."""
    modules = (gathers, tasks, patience, services, cancelling, snapshots, dispatch, imports)
    for module in modules if loop == DEFAULT else (gathers, tasks, patience):
        yield from module.contests(sizes)
