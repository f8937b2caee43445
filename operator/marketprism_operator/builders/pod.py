"""The Pod that all workloads share: restricted, without an API token, its root filesystem read-only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from marketprism_api.meta import SecretRef
from marketprism_api.pipeline import DEFAULT_LIMITS, DEFAULT_REQUESTS, PodTemplate, Resources
from marketprism_api.tiering import Cold
from marketprism_operator import naming
from marketprism_operator.builders import config_map, service_account
from marketprism_operator.builders.overlay import overlaid
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.naming import Manifest

CONFIG = "config"
CONFIG_DIR = "/etc/marketprism"
AUTH_DIR = "/var/run/secrets/marketprism"
UID = 65532
"""The images' own."""


def secrets(request: BuildRequest, cold: Cold | None) -> dict[str, tuple[str, ...]]:
    """Directory → the Secrets joined in it."""
    spec = request.pipeline.spec
    found = {
        "clickhouse": _names(spec.clickhouse.auth_secret_ref, spec.clickhouse.tls_secret_ref),
        "nats": _names(spec.nats.auth_secret_ref, spec.nats.tls_secret_ref) if not request.policy else (),
        "clickhouse-cold": _names(cold.auth_secret_ref) if cold else (),
    }
    return {directory: names for directory, names in found.items() if names}


def _names(*refs: SecretRef | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(ref.name) for ref in refs if ref))


def template(
    request: BuildRequest,
    component: str,
    args: Sequence[str],
    config_hash: str,
    *,
    selector: Mapping[str, str] | None = None,
    port: int = 0,
    resources: Resources | None = None,
    over: PodTemplate | None = None,
    restart: str = "Always",
    grace: int = 30,
    env: Mapping[str, str] | None = None,
    cold: Cold | None = None,
) -> Manifest:
    """A PodTemplateSpec with one container named after its component. It changes only when something that its container reads changes.

    `cold`: what its container is to know of cold's server.
    """
    labels = {**request.labels(component), **(selector or {})}
    directories = secrets(request, cold)
    container: Manifest = {
        "name": component,
        "image": request.image,
        "args": list(args),
        "command": ["marketprism"],
        "env": [
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 - a volume of the Pod's own
            *({"name": name, "value": value} for name, value in (env or {}).items()),
            *(
                {"name": f"MARKETPRISM_{name.upper().replace('-', '_')}_AUTH_DIR", "value": f"{AUTH_DIR}/{name}"}
                for name in directories
            ),
        ],
        "resources": {
            "requests": _text({**DEFAULT_REQUESTS, **(resources.requests if resources else {})}),
            "limits": _text({**DEFAULT_LIMITS, **(resources.limits if resources else {})}),
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": CONFIG, "mountPath": CONFIG_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
            *({"name": f"{name}-auth", "mountPath": f"{AUTH_DIR}/{name}", "readOnly": True} for name in directories),
        ],
    }
    if port:
        container["ports"] = [{"name": "metrics", "containerPort": port, "protocol": "TCP"}]
        container["livenessProbe"] = _probe("/healthz", 10, 6)
        container["readinessProbe"] = _probe("/readyz", 1, 10)
    spec: Manifest = {
        "serviceAccountName": service_account.name(request),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": restart,
        "terminationGracePeriodSeconds": grace,
        "securityContext": {
            "runAsNonRoot": True,
            **({} if request.platform.uids else dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), UID)),
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": CONFIG, "configMap": {"name": request.configs.get(config_hash) or config_map.name(request)}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
            *(
                {
                    "name": f"{directory}-auth",
                    "projected": {"sources": [{"secret": {"name": name}} for name in names], "defaultMode": 0o440},
                }
                for directory, names in directories.items()
            ),
        ],
    }
    if restart == "Always":
        spec["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels},
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ]
    if request.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in request.pull_secrets]
    layers = (request.pipeline.spec.pod_template, over or PodTemplate())
    laid_metadata: Manifest = {}
    used = {f"Secret/{name}" for names in directories.values() for name in names}
    for layer in layers:
        laid_metadata = overlaid(laid_metadata, layer.metadata)
        spec = overlaid(spec, layer.spec)
        used |= references(layer)
    annotations = {**laid_metadata.get("annotations", {}), naming.CONFIG_HASH: config_hash}
    for kind, annotation in (("Secret", naming.SECRETS_HASH), ("ConfigMap", naming.CONFIG_MAPS_HASH)):
        versions = {name: request.versions.get(name, "") for name in sorted(used) if name.startswith(f"{kind}/")}
        if versions:
            unreadable = naming.UNREADABLE in versions.values()
            annotations[annotation] = naming.UNREADABLE if unreadable else naming.digest(versions)
    # The selector's labels go last: an overlay may not make a Deployment lose its Pods.
    metadata = {"labels": {**laid_metadata.get("labels", {}), **labels}, "annotations": annotations}
    return {"metadata": metadata, "spec": {**spec, "terminationGracePeriodSeconds": max(_grace(spec, grace), grace)}}


def template_of(workload: Manifest) -> Manifest:
    """A workload's Pod template, whatever its kind."""
    spec = workload["spec"]
    found: Manifest = spec["jobTemplate"]["spec"]["template"] if workload["kind"] == "CronJob" else spec["template"]
    return found


def config_of(template: Manifest) -> str:
    """The name of the ConfigMap that its Pods read."""
    volumes = template["spec"].get("volumes") or []
    return next((str(v["configMap"]["name"]) for v in volumes if v["name"] == CONFIG and v.get("configMap")), "")


def references(over: PodTemplate) -> set[str]:
    """Secrets and ConfigMaps that an overlay names, as `Kind/name`."""
    found: set[str] = set()

    def look(value: object, key: str = "") -> None:
        if isinstance(value, list):
            for item in value:
                look(item, key)
        elif isinstance(value, dict):
            name = value.get("name") or value.get("secretName")
            if key in ("secret", "secretRef", "secretKeyRef") and isinstance(name, str):
                found.add(f"Secret/{name}")
            if key in ("configMap", "configMapRef", "configMapKeyRef") and isinstance(name, str):
                found.add(f"ConfigMap/{name}")
            for child_key, child in value.items():
                look(child, child_key)

    look(over.spec)
    return found


def _grace(spec: Manifest, otherwise: int) -> int:
    given = spec.get("terminationGracePeriodSeconds")
    return given if isinstance(given, int) else otherwise


def _text(amounts: Mapping[str, object]) -> dict[str, str]:
    return {name: str(amount) for name, amount in amounts.items()}


def _probe(path: str, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "metrics"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }
