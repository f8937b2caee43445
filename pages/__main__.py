"""Writes the generated pages: `python -m pages`; with --check it says which are stale, and exits with 1."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pages import cli, conditions, data_types, exit_codes, metrics, resources

DIRECTORY = Path(__file__).parent.parent / "docs" / "reference"
PAGES = {
    "cli.md": cli.text,
    "conditions.md": conditions.text,
    "data_types.md": data_types.text,
    "exit_codes.md": exit_codes.text,
    "metrics.md": metrics.text,
    "resources.md": resources.text,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pages", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if a page is stale")
    check = parser.parse_args().check
    stale = False
    for name, text in PAGES.items():
        path, wanted = DIRECTORY / name, text()
        if path.is_file() and path.read_text(encoding="utf-8") == wanted:
            continue
        if check:
            stale = True
            sys.stderr.write(f"{path.name} is stale: run `make crds`\n")
        else:
            path.write_text(wanted, encoding="utf-8")
            sys.stderr.write(f"{path.name} written\n")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
