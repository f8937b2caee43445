"""Every trigger that kopf delivers, and nothing else: each only says which resource to reconcile.

All are plain events: none puts a finalizer or an annotation on a resource, so a deletion never waits for us.
The other triggers are Secrets and ConfigMaps (`references.py`), and the periodic resync (`operator.py`).
"""

from __future__ import annotations

from typing import Any

import kopf

from marketprism_api.meta import GROUP, VERSION
from marketprism_api.pipeline import StoragePipeline
from marketprism_api.tiering import TieringPolicy
from marketprism_operator.naming import FIELD_MANAGER, MANAGED_BY
from marketprism_operator.operator import Operator

PARENTS = (StoragePipeline, TieringPolicy)
CHILDREN = (
    ("", "v1", "serviceaccounts"),
    ("", "v1", "services"),
    ("", "v1", "pods"),
    ("apps", "v1", "deployments"),
    ("batch", "v1", "jobs"),
    ("batch", "v1", "cronjobs"),
    ("policy", "v1", "poddisruptionbudgets"),
    ("networking.k8s.io", "v1", "networkpolicies"),
)


def register(registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings, operator: Operator) -> None:
    for parent in PARENTS:

        @kopf.on.event(GROUP, VERSION, parent.PLURAL, registry=registry, id=parent.PLURAL)
        async def changed(body: Any, type: str | None, **_: Any) -> None:
            operator.parent_changed(dict(body), gone=type == "DELETED")

    for group, version, plural in CHILDREN:

        @kopf.on.event(group, version, plural, labels={MANAGED_BY: FIELD_MANAGER}, registry=registry, id=plural)
        async def child(body: Any, **_: Any) -> None:
            operator.child_changed(dict(body))

    for group, version, plural in CHILDREN:  # so that the API server sends no others
        settings.watching.label_selectors[group, version, plural] = f"{MANAGED_BY}={FIELD_MANAGER}"

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> Any:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
