"""The registry of reasons is closed: each has one code and one name, is used, and is documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from marketprism_api import reasons, reasons_page
from marketprism_api.reasons import ALL, BY_NAME, Reason

ROOT = Path(__file__).parents[2]
PAGE = ROOT / reasons.DOCS
NAMED = {name: value for name, value in vars(reasons).items() if isinstance(value, Reason)}


def test_no_code_and_no_name_is_given_twice() -> None:
    assert len(ALL) == len(BY_NAME) == len(NAMED)


@pytest.mark.parametrize("reason", NAMED.values(), ids=str)
def test_a_reason_reads_well(reason: Reason) -> None:
    assert re.fullmatch(r"MP[1-9]\d{3}", reason.code)
    assert re.fullmatch(r"[A-Z][A-Za-z0-9]{2,}", reason.name)
    for words in (reason.text, reason.hint):
        assert words == words.strip().removesuffix(".")
    assert reason.hint or reason.code[:3] in ("MP6", "MP7"), "only a state needs no advice"


def test_every_reason_is_used() -> None:
    sources = [
        p for part in ("api", "consumer", "operator") for p in (ROOT / part).rglob("*.py") if p.name != "reasons.py"
    ]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    unused = {name for name in NAMED if not re.search(rf"\b{name}\b", code)}
    assert unused == set()


def test_the_page_is_current() -> None:
    assert reasons_page.main(["--check", str(PAGE)]) == 0


@pytest.mark.parametrize("reason", NAMED.values(), ids=str)
def test_a_reasons_link_leads_to_it(reason: Reason) -> None:
    path, _, anchor = reason.docs.partition("#")
    page = (ROOT / path).read_text(encoding="utf-8")
    assert page.count(f'<a id="{anchor}"></a>\n## {reason}\n') == 1


def test_the_page_is_written_once_and_then_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "docs" / "reasons.md"
    assert reasons_page.main(["--check", str(page)]) == 1
    assert "differs" in capsys.readouterr().err
    assert not page.exists()
    assert reasons_page.main([str(page)]) == 0
    assert reasons_page.main(["--check", str(page)]) == 0
    page.write_text("stale")
    assert reasons_page.main(["--check", str(page)]) == 1
