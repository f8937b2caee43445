"""What somebody else has added to a Pod template. Server-side apply takes back what is changed, but leaves what is added.

Pure. Who owns what the API server itself notes, in `metadata.managedFields`
(https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from marketprism_operator.naming import FIELD_MANAGER, Manifest

TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Deployment": ("spec", "template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
}
"""Below these everything is ours. Annotations and labels beside it are not: a restart by hand and injectors leave theirs."""


class Addition(NamedTuple):
    pointer: str
    """To it, as RFC 6901 has it."""
    name: str
    """For people: `spec.template.spec.containers[consumer].env[X]`."""


def additions(live: Manifest) -> list[Addition]:
    """In an order in which they can be removed one after the other."""
    place = TEMPLATES.get(live["kind"])
    if place is None:
        return []
    ours: dict[str, Any] = {}
    theirs: dict[str, Any] = {}
    for entry in live["metadata"].get("managedFields") or []:
        if not entry.get("subresource"):
            _merge(ours if entry.get("manager") == FIELD_MANAGER else theirs, entry.get("fieldsV1") or {})
    found: list[tuple[tuple[str | int, ...], str]] = []
    value: Any = live
    for key in place:
        ours, theirs, value = ours.get(f"f:{key}", {}), theirs.get(f"f:{key}", {}), (value or {}).get(key)
    for path, name in _added(theirs, ours, value):
        found.append(((*place, *path), ".".join(place) + name))
    # Of a list the last first: what is removed moves those behind it.
    found.sort(
        key=lambda each: [(0, "", part) if isinstance(part, int) else (1, part, 0) for part in each[0]], reverse=True
    )
    return [Addition("".join(f"/{_escaped(part)}" for part in path), name) for path, name in found]


def _added(theirs: Any, ours: Any, value: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for key, below in theirs.items():
        if key == ".":
            continue
        there = _find(key, value)
        if there is None:
            continue
        part, name, child = there
        if key not in ours:
            yield (part,), name
        else:
            for path, rest in _added(below, ours[key], child):
                yield (part, *path), name + rest


def _find(key: str, value: Any) -> tuple[str | int, str, Any] | None:
    """Where a key of managedFields leads: `f:` to a field, `k:` to a list's item by its keys, `v:` to one by its value."""
    kind, _, text = key.partition(":")
    if kind == "f" and isinstance(value, dict) and text in value:
        return text, f".{text}", value[text]
    if kind in ("k", "v") and isinstance(value, list):
        wanted = json.loads(text)
        for index, item in enumerate(value):
            same = item == wanted if kind == "v" else all(item.get(name) == each for name, each in wanted.items())
            if same:
                label = wanted if kind == "v" else "/".join(map(str, wanted.values()))
                return index, f"[{label}]", item
    return None


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, below in more.items():
        _merge(into.setdefault(key, {}), below)


def _escaped(part: str | int) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
