"""``python -m async_plus``."""

from __future__ import annotations

import sys

from async_plus.cli import main

if __name__ == "__main__":
    sys.exit(main())
