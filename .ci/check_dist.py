"""Check what would be uploaded: `python check_dist.py FILES WHEEL SDIST`, FILES listing those of the project.

The wheel holds every file of the package and nothing else. The sdist holds every file of the project but
those about the hosting, so that the tests and recipes can be run from it.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

# What only makes sense in the repository.
HOSTING = (".ci/", ".github/", ".gitignore", ".readthedocs.yaml")


def main(files: str, wheel: str, sdist: str) -> int:
    project = set(Path(files).read_text().splitlines())
    package = {name for name in project if name.startswith("async_plus/")}
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if ".dist-info/" not in name}
    with tarfile.open(sdist) as archive:
        in_sdist = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}

    problems = [
        *(f"wheel lacks {name}" for name in sorted(package - in_wheel)),
        *(f"wheel has {name}, which is no file of the package" for name in sorted(in_wheel - package)),
        *(f"sdist lacks {name}" for name in sorted(project - in_sdist) if not name.startswith(HOSTING)),
    ]
    if "async_plus/py.typed" not in in_wheel:
        problems.append("wheel lacks py.typed")
    print("\n".join(problems) or f"wheel: {len(in_wheel)} files, sdist: {len(in_sdist)} files, nothing missing")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
