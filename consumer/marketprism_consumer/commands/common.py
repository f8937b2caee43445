"""What commands share: the pipeline's file, exit codes, errors for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from marketprism_api.load import load, pipeline_of
from marketprism_api.problems import ResourceError, ValueRefusedError
from marketprism_api.settings import Settings, effective
from marketprism_api.tiering import TieringPolicy
from marketprism_api.types import Duration
from marketprism_consumer.commands.exits import Exit, epilog

File = Annotated[
    str, typer.Option("--file", "-f", help="The StoragePipeline; - reads stdin. Without it, the defaults.")
]


OnlyTypes = Annotated[
    list[str] | None, typer.Option("--type", metavar="TYPE", help="Only this data type; may be repeated.")
]


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


def chosen_types(settings: Settings, types: Sequence[str] | None) -> list[str]:
    """Those that were named, each once; all of the pipeline's where none was. Ends the process where it has no such type."""
    if unknown := [name for name in types or () if name not in settings.data_types]:
        fail(f"the pipeline does not store {', '.join(unknown)}, but {', '.join(settings.data_types)}", Exit.USAGE)
    return list(dict.fromkeys(types or settings.data_types))


Json = Annotated[Output, typer.Option("--output", "-o", help="For people, or for a script.")]

stderr = Console(stderr=True, soft_wrap=True, highlight=False)
# In a pipe or a file lines may be long.
stdout = Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 160)


def command_line(
    help: str, commands: Iterable[tuple[str, Callable[..., None], str]], *, within: str = "", completion: bool = False
) -> typer.Typer:
    """Of commands with their names and examples. `within`: the command of which they are parts."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=completion,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help=help,
    )
    for name, run_it, examples in commands:
        app.command(name, epilog=epilog(f"{within} {name}".strip(), examples))(run_it)
    return app


def settings_of(file: str) -> Settings:
    """The effective settings; a wrong file or variable ends the command with what is wrong."""
    source = file or os.environ.get("MARKETPRISM_FILE", "").strip()
    try:
        resources = load(source) if source else []
        policies = [resource for resource in resources if isinstance(resource, TieringPolicy)]
        # A policy beside the pipeline says where cold is. Of several none speaks for all: then the environment does.
        policy = policies[0] if len(policies) == 1 else None
        return effective(pipeline_of(resources, source) if source else None, os.environ, policy)
    except ResourceError as error:
        fail(str(error), Exit.USAGE)


def seconds(text: str, option: str, least: float = 0.0) -> float:
    """A duration such as 30s. Raises ValueError."""
    try:
        found = Duration(text).seconds
    except ValueRefusedError as refused:
        raise ValueError(f"{option}: {refused}: {Duration.ALLOWED}") from None
    if found < least:
        raise ValueError(f"{option}: {text} is less than {least:g}s")
    return found


def moment(text: str, now: float) -> int:
    """A time, UTC where it has no offset, or a duration before now, in µs. Raises ValueError."""
    try:
        return int((now - Duration(text).seconds) * 1e6)
    except ValueRefusedError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a time such as 2026-11-23T07:00 nor a duration such as 2h") from None
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1e6)


def fail(message: str, code: Exit) -> NoReturn:
    stderr.print(message, style="red", markup=False)
    raise typer.Exit(int(code))


def leave_word(text: str) -> None:
    """Where this is a Pod, its termination message: Kubernetes keeps 4096 bytes of it."""
    path = Path(os.environ.get("MARKETPRISM_TERMINATION_LOG", "").strip() or "/dev/termination-log")
    if path.is_file() and os.access(path, os.W_OK):
        path.write_text(text, encoding="utf-8")
