"""Render the diagrams: ``python docs/_diagrams/render.py``, with Graphviz installed (``dot``).

The results are kept beside their sources, so that building the pages needs no Graphviz. They are inlined into the pages
and drawn in ``currentColor``, which is that of the text, in a light and in a dark theme. Each holds the digest of its
source, by which ``tests/test_docs.py`` sees whether it is up to date.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).parent

STYLE = (
    "-Gbgcolor=transparent",
    "-Nshape=box",
    "-Nfontname=sans-serif",
    "-Nfontsize=13",
    "-Efontname=sans-serif",
    "-Efontsize=12",
    "-Earrowsize=0.7",
)


def digest(source: Path) -> str:
    """Return what the SVG made from *source* must hold."""
    return hashlib.sha256(source.read_bytes()).hexdigest()[:16]


def render(source: Path) -> str:
    """Return *source* as a piece of HTML."""
    svg = subprocess.run(["dot", "-Tsvg", *STYLE, source], capture_output=True, text=True, check=True).stdout
    title = re.search(r'digraph "(.*)"', source.read_text())[1]
    svg = re.sub(r"^.*?(?=<svg)|<!--.*?-->\n|<title>.*?</title>\n", "", svg, flags=re.DOTALL)
    svg = svg.replace('stroke="black"', 'stroke="currentColor"').replace('fill="black"', 'fill="currentColor"')
    svg = re.sub(r"<text (?![^>]*fill=)", '<text fill="currentColor" ', svg)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
    return f'<!-- {source.name} {digest(source)} -->\n<div class="diagram">\n{svg}</div>\n'


if __name__ == "__main__":
    for source in sorted(HERE.glob("*.dot")):
        source.with_suffix(".svg").write_text(render(source))
