"""What the pages say exists: every command with its options, every variable, every file."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from marketprism_consumer.cli import app
from tests.docs.pages import DOCS, ROOT, Typed, typed

COMMANDS = [
    one for page in DOCS for one in typed(page) if one.line.startswith(("marketprism ", "kubectl marketprism "))
]
VARIABLE = re.compile(r'"((?:MARKETPRISM|CLICKHOUSE|NATS|MIGRATION)_[A-Z][A-Z_]*[A-Z])"')


def test_pages_tell_readers_to_type_something() -> None:
    assert len(COMMANDS) > 20


@pytest.mark.parametrize("one", COMMANDS, ids=lambda one: f"{one.page}: {one.line}")
def test_a_command_on_a_page_is_one(one: Typed) -> None:
    command: Any = typer.main.get_command(app)
    words = shlex.split(one.line.replace("kubectl marketprism", "marketprism kubectl"))[1:]
    path = ["marketprism"]
    context = command.context_class(command, info_name="marketprism")
    while hasattr(command, "list_commands"):
        assert words, f"{one.line}: which command?"
        path.append(words.pop(0))
        command = command.get_command(context, path[-1])
        assert command, f"{' '.join(path)} is no command"
    if words != ["--help"]:
        command.make_context(path[-1], words)


def test_what_a_page_tells_to_make_is_made() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = {one.line.split()[1] for page in DOCS for one in typed(page) if one.line.startswith("make ")}
    assert {"demo", "install", "test"} <= told <= targets


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_picture_on_a_page_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"""!\[[^]]*\]\(([^)#]+)|(?:src|srcset)="([^"]+)""", text)
    assert [name for name in map("".join, named) if "://" not in name and not (page.parent / name).is_file()] == []


def test_the_page_of_the_environment_names_every_variable_that_is_read() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for package in ("api/marketprism_api", "consumer/marketprism_consumer", "operator/marketprism_operator")
        for path in (ROOT / package).rglob("*.py")
    )
    # Taken out of a copy; a stream's and a bucket's name; for tests alone.
    others = {
        "CLICKHOUSE_DB",
        "MARKETPRISM_DLQ",
        "MARKETPRISM_LANES",
        "MARKETPRISM_TEST_VALID",
        "MARKETPRISM_TEST_CHUNK",
    }
    read = set(VARIABLE.findall(code)) - others
    page = (ROOT / "docs/reference/environment.md").read_text(encoding="utf-8")
    assert len(read) > 15
    assert {name for name in read if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_file_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(r"(?:helm |-f )((?:examples|helm|deploy|contrib)[\w./-]*)", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", ["architecture.md", "guarantee.md"])
def test_the_source_files_that_a_page_names_are_there(page: str) -> None:
    members = [path for member in ("api", "consumer", "embedded", "operator") for path in (ROOT / member).rglob("*.py")]
    there = [str(path.relative_to(ROOT)) for path in [*members, *(ROOT / "monitoring").rglob("*.py")]]
    there += [str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")]
    named = set(re.findall(r"`([\w/]+\.py)`", (ROOT / "docs" / page).read_text()))
    assert named
    assert {name for name in named if not any(path == name or path.endswith(f"/{name}") for path in there)} == set()


def test_the_tutorial_asks_for_the_kubernetes_that_the_chart_asks_for() -> None:
    chart = (ROOT / "helm/Chart.yaml").read_text()
    (wanted,) = re.findall(r'kubeVersion: ">=(\d+\.\d+)', chart)
    assert f"a cluster ({wanted} or newer)" in (ROOT / "docs/tutorial/kubernetes.md").read_text()
