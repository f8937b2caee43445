"""Pods are replaced when a Secret or ConfigMap that they use has changed, and not when the operator only begins, or ceases, to see it.

The hash in the Pod template rolls; beside it, on the Deployment, stands what was last seen. Pure.
"""

from __future__ import annotations

from marketprism_operator.naming import CONFIG_MAPS_HASH, SECRETS_HASH, UNREADABLE, Manifest


def unmoved(wanted: Manifest, live: Manifest | None) -> Manifest:
    """A Deployment as it is wanted, its Pod template with the hashes of the `live` one where nothing is known to have changed."""
    template = wanted["spec"]["template"]
    told: Manifest = {}
    rolling = dict(template["metadata"].get("annotations") or {})
    for name in (SECRETS_HASH, CONFIG_MAPS_HASH):
        if name not in rolling:
            continue
        now = rolling[name]
        before = _annotations((live or {}).get("metadata")).get(name, UNREADABLE)
        held = _annotations((live or {}).get("spec", {}).get("template", {}).get("metadata")).get(name)
        told[name] = before if now == UNREADABLE else now
        if held and (before == UNREADABLE or told[name] == before):
            rolling[name] = held
    metadata = {**wanted["metadata"], "annotations": {**_annotations(wanted["metadata"]), **told}}
    template = {**template, "metadata": {**template["metadata"], "annotations": rolling}}
    return {**wanted, "metadata": metadata, "spec": {**wanted["spec"], "template": template}}


def _annotations(metadata: Manifest | None) -> Manifest:
    return dict((metadata or {}).get("annotations") or {})
