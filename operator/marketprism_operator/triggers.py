"""Every trigger that kopf delivers, and nothing else: each only says which resource to reconcile.

All are plain events: none puts a finalizer or an annotation on a resource, so a deletion never waits for us.
The other triggers are what is watched beside them (`watches.py`), and the periodic resync (`operator.py`).
"""

from __future__ import annotations

from typing import Any

import kopf

from marketprism_api.meta import GROUP, VERSION
from marketprism_api.pipeline import StoragePipeline
from marketprism_api.tiering import TieringPolicy
from marketprism_operator.operator import Operator

PARENTS = (StoragePipeline, TieringPolicy)


def register(registry: kopf.OperatorRegistry, settings: kopf.OperatorSettings, operator: Operator) -> None:
    for parent in PARENTS:

        @kopf.on.event(GROUP, VERSION, parent.PLURAL, registry=registry, id=parent.PLURAL)
        async def changed(body: Any, type: str | None, **_: Any) -> None:
            operator.parent_changed(dict(body), gone=type == "DELETED")

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> Any:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)
