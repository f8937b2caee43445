"""What several processes say, as if one said it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from marketprism_api import reasons

ADDED = ("received", "inserted", "deadLetters", "inserts", "inHand")
LAST = ("lastInsertTime", "lastInsertRows", "lastInsertSeconds")


def metrics(texts: Mapping[int, str]) -> bytes:
    """Each sample with the label `process`: sums over processes would fall where one is started again, and begins from zero."""
    families: dict[str, Metric] = {}
    for number, text in texts.items():
        for family in text_string_to_metric_families(text):
            into = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            into.samples += [
                Sample(s.name, {"process": str(number), **s.labels}, s.value, s.timestamp, s.exemplar)
                for s in family.samples
            ]
    return _text(families.values())


def _text(families: Iterable[Metric]) -> bytes:
    class Collected:
        def collect(self) -> Iterable[Metric]:
            return families

    registry = CollectorRegistry()
    registry.register(Collected())
    return generate_latest(registry)


def problems(said: Mapping[int, Iterable[str]]) -> list[str]:
    """What is wrong, each once, with the processes that say so."""
    by: dict[str, list[str]] = {}
    for number, lines in said.items():
        for line in lines:
            by.setdefault(line, []).append(str(number))
    return [f"process {', '.join(numbers)}: {line}" for line, numbers in by.items()]


def data_types(said: Iterable[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The numbers of `/status.json` by data type: what each does adds up, of what all look at the worst counts."""
    of_type: dict[str, list[Mapping[str, Any]]] = {}
    for each in said:
        for name, numbers in each.items():
            of_type.setdefault(name, []).append(numbers)
    return {name: _numbers(found) for name, found in of_type.items()}


def _numbers(said: list[Mapping[str, Any]]) -> dict[str, Any]:
    last = max(said, key=lambda numbers: numbers["lastInsertTime"] or 0.0)
    lags = [numbers["lag"] for numbers in said if numbers["lag"] is not None]
    running = reasons.RUNNING.name
    return {
        **{name: sum(numbers[name] for numbers in said) for name in ADDED},
        "state": next((numbers["state"] for numbers in said if numbers["state"] != running), running),
        "lag": sum(lags) if lags else None,
        "lagSeconds": max(numbers["lagSeconds"] for numbers in said),
        "setAside": max(numbers["setAside"] for numbers in said),
        "reads": any(numbers["reads"] for numbers in said),
        "streams": list(dict.fromkeys(stream for numbers in said for stream in numbers["streams"])),
        **{name: last[name] for name in LAST},
    }
