"""How long `import async_plus` takes, against what it cannot do without."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping

from benchmarks.measure import Contest, Ratio, Side, divided
from benchmarks.rows.workloads import Sizes

__all__ = ["contests"]

_RATIO = Ratio("import async_plus / what it stands on", 1.1, ("async_plus", "asyncio, logging, wrapt"), divided)


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield the one contest; it has no sizes."""
    with tempfile.TemporaryDirectory() as folder:
        # Compiled once, in a place of our own: where PYTHONDONTWRITEBYTECODE is set, it would be done each time.
        environment = os.environ | {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        sides = {names: _import(names, environment) for names in _RATIO.sides}
        yield Contest("fresh interpreters", sides, (_RATIO,))


def _import(names: str, environment: Mapping[str, str]) -> Side:
    # The start of the interpreter is left out: it takes longer than either, and would hide the difference.
    program = f"import time; began = time.process_time(); import {names}; print(time.process_time() - began)"

    async def fresh_interpreter() -> float:
        return _run(program, environment)

    return fresh_interpreter


def _run(program: str, environment: Mapping[str, str]) -> float:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)
