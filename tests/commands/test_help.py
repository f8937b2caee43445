"""Every command explains itself: a sentence and an example."""

import pytest
import typer
from typer.testing import CliRunner

from marketprism_consumer.cli import app
from marketprism_consumer.commands.exits import spoken


def commands(group: typer.core.TyperGroup, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, command in group.commands.items():
        found += commands(command, (*path, name)) if hasattr(command, "commands") else [(*path, name)]
    return found


@pytest.mark.parametrize("path", commands(typer.main.get_command(app)), ids=" ".join)
def test_help_has_an_example(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*path, "--help"])
    assert shown.exit_code == 0
    assert spoken(" ".join(path)) in " ".join(shown.output.split()), "no example of its use"
