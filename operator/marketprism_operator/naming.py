"""Every name, label and annotation that the operator gives. Nothing is copied from the parent's labels."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeAlias

from marketprism_api.meta import API_VERSION
from marketprism_api.meta import GROUP as GROUP

Manifest: TypeAlias = dict[str, Any]

FIELD_MANAGER = "marketprism-operator"
MANAGED_BY = "app.kubernetes.io/managed-by"
NAME = "app.kubernetes.io/name"
COMPONENT = "app.kubernetes.io/component"
PIPELINE = f"{GROUP}/pipeline"
POLICY = f"{GROUP}/policy"
CONSUMER = f"{GROUP}/consumer"
CONFIG_HASH = f"{GROUP}/config-hash"
SECRETS_HASH = f"{GROUP}/secrets-hash"
CONFIG_MAPS_HASH = f"{GROUP}/config-maps-hash"
UNREADABLE = "unreadable"
"""Instead of a version: the operator may not know it."""
RUN_NOW = f"{GROUP}/run-now"
PAUSE = f"{GROUP}/pause"
"""Set by a user on a TieringPolicy: each new value starts one run."""
APPLIED_HASH = f"{GROUP}/applied-hash"
"""Of the manifest as it was applied: a child that differs while this is unchanged was edited by somebody else."""

_LONGEST = 63


def joined(*parts: str) -> str:
    """The parts with `-` between them; a name that is too long is cut, and a hash keeps it apart from others."""
    name = "-".join(parts)
    if len(name) <= _LONGEST:
        return name
    return f"{name[: _LONGEST - 9].rstrip('-')}-{digest(name)}"


def digest(value: object) -> str:
    """Eight hexadecimal digits that change with `value`."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def labels(key: str, name: str, component: str) -> dict[str, str]:
    """`key` is PIPELINE or POLICY, `name` that resource's."""
    return {MANAGED_BY: FIELD_MANAGER, NAME: "marketprism", COMPONENT: component, key: name}


def owner(kind: str, name: str, uid: str) -> Manifest:
    """Lets the garbage collector take the children; it never holds up the owner's own deletion."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
