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


def additions(live: Manifest, wanted: Manifest) -> list[Addition]:
    """What others own and the wanted manifest lacks, in an order in which it can be removed one after the other. Who owns a field that
    is wanted makes no difference: `kubectl set image` takes it over, and applying takes it back."""
    place = TEMPLATES.get(live["kind"])
    if place is None:
        return []
    theirs: dict[str, Any] = {}
    for entry in live["metadata"].get("managedFields") or []:
        if not entry.get("subresource") and entry.get("manager") != FIELD_MANAGER:
            _merge(theirs, entry.get("fieldsV1") or {})
    there: Any = live
    for key in place:
        theirs, there, wanted = theirs.get(f"f:{key}", {}), (there or {}).get(key), (wanted or {}).get(key) or {}
    found = [((*place, *path), ".".join(place) + name) for path, name in _added(theirs, there, wanted)]
    # Of a list the last first: what is removed moves those behind it.
    found.sort(
        key=lambda each: [(0, "", part) if isinstance(part, int) else (1, part, 0) for part in each[0]], reverse=True
    )
    return [Addition("".join(f"/{_escaped(part)}" for part in path), name) for path, name in found]


def _added(theirs: Any, there: Any, wanted: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for key, below in theirs.items():
        if key == "." or (found := _find(key, there)) is None:
            continue
        part, name, child = found
        ours = _find(key, wanted)
        if ours is None:
            yield (part,), name
        else:
            for path, rest in _added(below, child, ours[2]):
                yield (part, *path), name + rest


def _find(key: str, value: Any) -> tuple[str | int, str, Any] | None:
    """Where a key of managedFields leads: `f:` to a field, `k:` to a list's item by its keys, `v:` to one by its value."""
    kind, _, text = key.partition(":")
    if kind == "f" and isinstance(value, dict) and text in value:
        return text, f".{text}", value[text]
    if kind in ("k", "v") and isinstance(value, list):
        wanted = json.loads(text)
        for index, item in enumerate(value):
            # What a manifest leaves out of a key has a default: a port's protocol.
            same = item == wanted if kind == "v" else all(item.get(name, each) == each for name, each in wanted.items())
            if same:
                label = wanted if kind == "v" else "/".join(map(str, wanted.values()))
                return index, f"[{label}]", item
    return None


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, below in more.items():
        _merge(into.setdefault(key, {}), below)


def _escaped(part: str | int) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
