"""One word for one thing: a class, or a type that has a name, has it alone in the whole product."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MEMBERS = ("api", "console", "consumer", "embedded", "operator")


def is_type(name: str) -> bool:
    return name[0].isupper() and not name.isupper()


def named(path: Path) -> Iterator[str]:
    """The public classes and type aliases of a module."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name) and is_type(target.id))


def test_no_two_files_give_one_name_to_two_things() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    files = [path for member in MEMBERS for path in (ROOT / member).rglob("*.py")]
    assert len(files) > 100
    for path in files:
        for name in named(path):
            if not name.startswith("_"):
                places[name].append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
