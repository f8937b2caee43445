"""Patterns of NATS subjects."""

from __future__ import annotations


def common(one: str, other: str) -> str:
    """The pattern of what two patterns have in common: `trade.okx.>` of `trade.>` and `*.okx.>`. Empty where that is nothing."""
    ours, theirs = one.split("."), other.split(".")
    found: list[str] = []
    for number in range(max(len(ours), len(theirs))):
        if number in (len(ours), len(theirs)):
            return ""
        a, b = ours[number], theirs[number]
        if ">" in (a, b):
            return ".".join([*found, *(theirs if a == ">" else ours)[number:]])
        if "*" not in (a, b) and a != b:
            return ""
        found.append(b if a == "*" else a)
    return ".".join(found)


def matches(pattern: str, subject: str) -> bool:
    """Does a message of this subject come under the pattern?"""
    return common(pattern, subject) == subject
