"""A strategic merge of what the user lays over a Pod: named things by their name, the rest as JSON merge."""

from __future__ import annotations

from typing import Any

KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}


def overlaid(base: Any, over: Any, field: str = "") -> Any:
    """`base` with `over` on it; a null in `over` takes a field away."""
    if isinstance(base, dict) and isinstance(over, dict):
        merged = dict(base)
        for key, value in over.items():
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = overlaid(merged.get(key), value, key)
        return merged
    key = KEYS.get(field)
    if key and isinstance(base, list) and isinstance(over, list):
        items = {item.get(key): item for item in base}
        for item in over:
            items[item.get(key)] = overlaid(items.get(item.get(key), {}), item)
        return list(items.values())
    return over
