"""One table of exit codes for all commands: no command without a line in it, no line without a command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from marketprism_consumer.cli import app
from marketprism_consumer.commands.exits import COMMANDS, line


def commands(command: Any, name: str = "") -> Iterator[str]:
    if hasattr(command, "commands"):
        for child, found in command.commands.items():
            yield from commands(found, f"{name} {child}".strip())
    else:
        yield name


def test_every_command_is_in_the_table() -> None:
    assert sorted(commands(typer.main.get_command(app))) == sorted(COMMANDS)


@pytest.mark.parametrize("command", [name for name in COMMANDS if not name.startswith("embedded")])
def test_its_help_says_what_its_exit_codes_mean(command: str) -> None:
    said = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "400"}).output
    assert " ".join(line(command).split()) in " ".join(said.split())
    assert "xample" in said
