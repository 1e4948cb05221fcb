"""Chaos: random programs over the public API, on the virtual clock, and what must hold after each of them.

    python -m tests.chaos --seeds 0:10000            # on every loop of this Python
    python -m tests.chaos --seed 123 --loop uvloop   # one of them again: the program and what happened in it

`programs` says what a program is, `grammar` draws one, `world` runs it, `by_hand` closes what no task would,
`ledger` keeps count of what was raised and where it surfaced, and `judge` looks at what is left.
"""

import sys
from pathlib import Path

# What stands beside this package is on the path under pytest, and is not under `python -m tests.chaos`.
_TESTS = str(Path(__file__).parent.parent)
if _TESTS not in sys.path:
    sys.path.insert(0, _TESTS)
