"""The soak of tests/chaos for some seconds. What it is for takes ten minutes: see there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


# It measures what only Linux tells.
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="there is no /proc")
def test_the_quickstart_outlasts_all_faults_and_leaves_nothing():
    """Killed connections, a blocked loop, a stopped process and a wall clock that jumps."""
    command = [sys.executable, "-m", "tests.chaos.soak", "--minutes", "0.05", "--feeds", "3"]

    soak = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert soak.stderr == ""
    assert soak.returncode == 0, soak.stdout
    for fault in ("kill", "block", "stop", "step"):
        assert f"{fault} " in soak.stdout.partition("faults: ")[2].partition(";")[0]
    assert soak.stdout.endswith("tasks left 0: all is well\n")
