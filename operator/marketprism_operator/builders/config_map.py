"""The pipeline, and a policy beside it, as the commands read them: without what only the operator needs.

A change makes another ConfigMap, so that Pods that are started again read what they have read before, until what has changed
is proven and rolled out.
"""

from __future__ import annotations

import yaml

from marketprism_operator import naming
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.naming import Manifest

FILE = "pipeline.yaml"


_NOT_THE_PODS = ("suspend", "progressDeadline", "resources", "podTemplate")


def name(request: BuildRequest) -> str:
    """With the hash of its content."""
    return naming.joined(request.name, "tiering" if request.policy else "pipeline", naming.digest(content(request)))


def content(request: BuildRequest) -> list[Manifest]:
    """The documents of the file."""
    return [_bare(resource.manifest()) for resource in (request.pipeline, request.policy) if resource]


def _bare(manifest: Manifest) -> Manifest:
    """Without what rolls no Pod, or rolls it by the Pod template itself."""
    spec = {k: v for k, v in manifest.get("spec", {}).items() if k not in _NOT_THE_PODS}
    if "consumers" in spec:
        spec["consumers"] = {key: {"dataTypes": consumer["dataTypes"]} for key, consumer in spec["consumers"].items()}
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": {"name": manifest["metadata"]["name"]},
        "spec": spec,
    }


def build(request: BuildRequest) -> Manifest:
    # libyaml's: in Python it is a third of what a pipeline costs.
    text = yaml.dump_all(content(request), Dumper=yaml.CSafeDumper, sort_keys=True, allow_unicode=True)
    return request.manifest("v1", "ConfigMap", name(request), "config", data={FILE: text}, immutable=True)
