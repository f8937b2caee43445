"""Deletes the durable consumers of a pipeline that is gone. It belongs to nobody, so that it outlives the pipeline.

What the pipeline was is in the Pod's own annotation: its ConfigMap and ServiceAccount are gone, too. The command waits
until the last Pod has stopped pulling.
"""

from __future__ import annotations

import yaml

from marketprism_operator import naming
from marketprism_operator.builders import config_map, pod
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.naming import Manifest

COMPONENT = "goodbye"


def name(request: BuildRequest) -> str:
    """Unique to this pipeline: another of the same name has another uid."""
    return naming.joined(request.name, COMPONENT, naming.digest(request.pipeline.metadata.uid))


def build(request: BuildRequest) -> Manifest:
    args = ["consumers", "delete", "-f", f"{pod.CONFIG_DIR}/{config_map.FILE}", "--wait", "2m"]
    template = pod.template(request, COMPONENT, args, "", restart="Never")
    text = yaml.safe_dump_all(config_map.content(request), sort_keys=True, allow_unicode=True)
    template["metadata"]["annotations"] = {naming.PIPELINE_TEXT: text}
    spec = template["spec"]
    del spec["serviceAccountName"]
    path = f"metadata.annotations['{naming.PIPELINE_TEXT}']"
    itself = {"items": [{"path": config_map.FILE, "fieldRef": {"fieldPath": path}}]}
    spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] != "config"]
    spec["volumes"].append({"name": "config", "downwardAPI": itself})
    made = request.manifest(
        "batch/v1",
        "Job",
        name(request),
        COMPONENT,
        spec={"backoffLimit": 6, "activeDeadlineSeconds": 1800, "ttlSecondsAfterFinished": 3600, "template": template},
    )
    made["metadata"].pop("ownerReferences", None)
    return made
