"""The exit codes of all commands, in one table: a script may rely on them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from marketprism_consumer.errors import StoreError


class Exit(IntEnum):
    OK = 0
    FINDINGS = 1
    USAGE = 2
    UNREACHABLE = 4


MEANINGS: Mapping[Exit, str] = {
    Exit.OK: "fine",
    Exit.FINDINGS: "findings: it ran, and what it found needs attention",
    Exit.USAGE: "usage: an option, a file or a variable is wrong, or a port is taken",
    Exit.UNREACHABLE: "unreachable: NATS or the cluster can't be used, or ClickHouse does not answer",
}
COMMANDS: Mapping[str, tuple[str, str]] = {
    "demo": ("the proof holds", "it does not hold"),
    "run": ("ended as asked", "it can't go on until somebody acts"),
    "ingest": ("ended as asked", "it can't go on until somebody acts"),
    "feed": ("all is acknowledged", "messages were refused, or their outcome is unknown"),
    "audit": ("it holds", "something is missing, double, altered or lost"),
    "status": ("every data type is read", "one is not"),
    "console": ("ended as asked", "never"),
    "check": ("all is as it should be", "warnings, or something is wrong"),
    "tap": ("done", "--for ended before --count messages came"),
    "replay": ("done", "ClickHouse refused rows, or there is nothing to replay to"),
    "heal": ("nothing is left of what it was given", "something is left, or disagrees with what is there"),
    "migrate": ("every table is done", "a table failed or was refused"),
    "tiers": ("no row is there twice", "some are"),
    "validate": ("nothing is wrong", "something is, or could not be read"),
    "export write": ("every file is written", "rows went on changing, or ClickHouse refused"),
    "export verify": ("every file says what the tables say", "one does not"),
    **{f"query {name}": ("done", "ClickHouse refused") for name in ("candles", "vwap", "book", "funding", "gaps")},
    "dlq list": ("done", "ClickHouse refused"),
    "dlq show": ("done", "there is no such dead letter"),
    "dlq replay": ("all are stored", "some stay"),
    "dlq purge": ("done", "not confirmed"),
    "schema plan": ("done", "a statement was refused"),
    "schema apply": ("the tables fit", "something differs, or a statement was refused"),
    "schema verify": ("the tables fit", "something differs"),
    "schema ensure": ("all is well", "tables differ, a stream lacks a subject, or a statement was refused"),
    "schema render": ("done", "never"),
    "lanes list": ("every record can be read", "one is missing, or can't be"),
    "lanes show": ("done", "there is no record, or it can't be read"),
    "lanes reset": ("done", "not confirmed, or it can't be done"),
    "types show": ("done", "never"),
    "types check": ("every message becomes a row", "one would be a dead letter"),
    "types infer": ("done", "never"),
    "kubectl status": ("every resource is Ready", "one is not"),
    "kubectl pause": ("the operator leaves it alone", "the operator has not said so in time"),
    "kubectl resume": ("the operator looks after it again", "the operator has not said so in time"),
    "kubectl migrate": ("the run succeeded", "it failed, or did not end in time"),
    "kubectl audit": ("it holds", "something is missing, double, altered or lost, or it could not run"),
    "kubectl logs": ("done", "never"),
    "kubectl render": ("done", "never"),
    "kubectl diff": ("nothing would change", "something would"),
    "embedded nats": ("ended as asked", "it died"),
    "embedded clickhouse": ("ended as asked", "it died"),
}
"""By command: what 0 means, and what 1 means. 2 and 4 mean the same everywhere."""


def spoken(command: str) -> str:
    """As it is typed: `kubectl marketprism status` is what kubectl makes of the plugin."""
    head, _, rest = command.partition(" ")
    return f"kubectl marketprism {rest}" if head == "kubectl" else f"marketprism {command}"


def exit_of(error: StoreError) -> Exit:
    """Where ClickHouse did not do what a command asked: no usable answer, or a refusal."""
    return Exit.UNREACHABLE if error.code == 0 else Exit.FINDINGS


def line(command: str) -> str:
    fine, findings = COMMANDS[command]
    return f"Exit: 0 {fine}, 1 {findings}, 2 usage, 4 unreachable."


def epilog(command: str, examples: str) -> str:
    """What --help ends with."""
    return f"{examples.rstrip()}\n\n\b\n{line(command)}\n"
