"""Only the metrics ports take connections; where the operator is told so, Pods connect to what their resource names only.

A policy knows addresses and labels, not names. So of an endpoint: an IP address is allowed with its port; a Service of the
cluster by its namespace, with any port, since a policy sees the Pods behind the Service, and their ports; of any other name
its port, at any address. What a `podTemplate` adds may need a policy of its own; policies add up.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from marketprism_operator import naming
from marketprism_operator.builders import tiering
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.naming import Manifest

NAMESPACE = "kubernetes.io/metadata.name"
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
PORTS = {"nats": 4222, "tls": 4222, "ws": 80, "wss": 443, "http": 8123, "https": 8443}
"""Where a URL has none."""
DNS: Manifest = {"ports": [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]}


def build(request: BuildRequest) -> Manifest:
    ports = sorted({consumer.metrics_port for consumer in request.pipeline.spec.carriers.values()})
    if request.policy:
        ports = [tiering.PORT] if request.policy.spec.every else []
    out: Manifest = {"egress": [DNS, *egress(request)]} if request.platform.egress else {}
    return request.manifest(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        naming.joined(request.name, "tiering" if request.policy else "storage"),
        "network",
        spec={
            "podSelector": {"matchLabels": request.selector},
            "policyTypes": ["Ingress", *(["Egress"] if out else [])],
            "ingress": [{"ports": [{"port": port, "protocol": "TCP"} for port in ports]}] if ports else [],
            **out,
        },
    )


def egress(request: BuildRequest) -> list[Manifest]:
    """A rule for each endpoint of the pipeline, and of cold."""
    spec = request.pipeline.spec
    urls = [*spec.clickhouse.url.urls, *(request.cold.url.urls if request.cold and request.cold.url else ())]
    if not request.policy:
        urls += spec.nats.url.urls
    own = str(request.resource.metadata.namespace or "")
    found: list[Manifest] = []
    for url in urls:
        found += [each for each in rules(url, own) if each not in found]
    return found


def rules(url: str, own: str) -> list[Manifest]:
    """What lets Pods of the namespace `own` connect to `url`."""
    parts = urlsplit(url)
    host, port = (parts.hostname or "").rstrip("."), parts.port or PORTS[parts.scheme]
    at_port: Manifest = {"ports": [{"port": port, "protocol": "TCP"}]}
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        labels = host.split(".")
        if not all(LABEL.fullmatch(label) for label in labels):  # no Service's
            return [at_port]
    else:
        return [{"to": [{"ipBlock": {"cidr": f"{address}/{address.max_prefixlen}"}}], **at_port}]
    if len(labels) == 1:
        return [_namespace(own)]
    if len(labels) == 2:  # a Service's name with its namespace, or a host elsewhere
        return [_namespace(labels[1]), at_port]
    if "svc" in labels[2:]:  # a Pod's own name goes before a Service's
        return [_namespace(labels[labels.index("svc", 2) - 1])]
    return [at_port]


def _namespace(name: str) -> Manifest:
    """All Pods of it; of the policy's own where nobody knows yet which that is."""
    return {"to": [{"namespaceSelector": {"matchLabels": {NAMESPACE: name}}} if name else {"podSelector": {}}]}
