"""The version, in a file of its own that imports nothing: the build reads it without running the package."""

from __future__ import annotations

__version__ = "1.0.0.dev0"
