"""What the documentation tells a reader to type."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
_BLOCK = re.compile(
    r'(?:^=== "(?P<tab>[^"]*)"\n\n)?^(?P<indent> *)```console\n(?P<body>.*?)^(?P=indent)```', re.M | re.S
)


@dataclass(frozen=True)
class Typed:
    """One line after a prompt; `tab` is the terminal that it is typed into, where the page has several."""

    page: str
    tab: str
    line: str


def typed(page: Path) -> list[Typed]:
    return [
        Typed(
            str(page.relative_to(ROOT)), match["tab"] or "", line.strip().removeprefix("$ ").partition("  #")[0].strip()
        )
        for match in _BLOCK.finditer(page.read_text(encoding="utf-8"))
        for line in match["body"].splitlines()
        if line.strip().startswith("$ ")
    ]
