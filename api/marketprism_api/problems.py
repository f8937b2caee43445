"""What is wrong with a resource or a setting, in words for the person who wrote it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LONGEST_VALUE = 80


@dataclass(frozen=True, slots=True)
class Objection:
    """Why a value is refused. `path` leads from that value to the part that is wrong."""

    message: str
    allowed: str = ""
    hint: str = ""
    path: str = ""


class ValueRefusedError(ValueError):
    """Raised by validators, with one objection or several. Never holds the value, which may be a secret."""

    def __init__(self, *objections: Objection) -> None:
        self.objections = objections
        super().__init__("; ".join(objection.message for objection in objections))


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct: where it is, what it is, what would be allowed."""

    message: str
    file: str = ""
    document: int | None = None
    """Counted from 1."""
    line: int | None = None
    """Counted from 1."""
    path: str = ""
    """Such as `spec.dataTypes.trade.batch.maxRows`, or `environment NATS_URL`."""
    value: str = ""
    """As shown: masked, cut, control characters escaped. Empty where it isn't shown."""
    allowed: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = self.file + (f":{self.line}" if self.file and self.line else "")
        subject = self.path + (f" = {self.value}" if self.value else "")
        head = ": ".join(printable(part) for part in (place, subject, self.message) if part)
        notes = (("allowed", self.allowed), ("hint", self.hint))
        return "\n".join([head, *(f"  {name}: {printable(text)}" for name, text in notes if text)])


class ResourceError(Exception):
    """A file or the environment can't be used. `problems` lists everything that is wrong, `str()` is for people."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def masked(text: str) -> str:
    """`text` without what may be a credential in a URL: user information and the query."""
    text = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)?.*@", r"\1***@", text, flags=re.DOTALL)
    return re.sub(r"\?.*", "?***", text, flags=re.DOTALL) if "://" in text else text


def shown(value: object) -> str:
    """A scalar as it may be printed; nothing for objects and lists, which could hold anything."""
    if isinstance(value, str):
        text = masked(value)
        return json.dumps(text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…", ensure_ascii=False)
    if isinstance(value, bool | int | float):
        return json.dumps(value) if len(str(value)) <= _LONGEST_VALUE else "a very large number"
    return ""


def printable(text: str) -> str:
    """`text` that can't move the cursor, ring the bell or turn the writing direction."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def did_you_mean(word: str, choices: Sequence[str]) -> str:
    """A hint for a misspelt `word`, empty where nothing is near."""
    by_lower = {choice.lower(): choice for choice in choices}
    near = get_close_matches(word.lower().replace("-", "_"), by_lower, n=1, cutoff=0.6)
    near = near or get_close_matches(word.lower().replace("_", ""), by_lower, n=1, cutoff=0.6)
    return f"did you mean `{by_lower[near[0]]}`?" if near else ""
