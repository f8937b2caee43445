"""What is done when a pipeline is gone: with deletionPolicy Delete, a Job deletes its durable consumers, never data.

Nothing waits for it: there is no finalizer. Where the operator is not running at that moment, the durable consumers stay.
"""

from __future__ import annotations

import logging

from kubernetes.aio.client.exceptions import ApiException

from marketprism_api import reasons
from marketprism_api.pipeline import StoragePipeline
from marketprism_api.problems import ResourceError
from marketprism_operator.builders import goodbye_job
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.cluster import ApplyRefusedError, Cluster
from marketprism_operator.config import Config
from marketprism_operator.events import Speaker
from marketprism_operator.naming import Manifest
from marketprism_operator.reconcile import parsed

log = logging.getLogger(__name__)


async def say(cluster: Cluster, config: Config, live: Manifest, events: Speaker) -> None:
    """`live` is the pipeline as it was last seen."""
    try:
        pipeline = parsed(live)
    except ResourceError:
        return  # nothing was ever made for it
    if not isinstance(pipeline, StoragePipeline) or pipeline.spec.deletion_policy != "Delete":
        return
    job = goodbye_job.build(BuildRequest(pipeline, config.image, pull_secrets=config.pull_secrets))
    try:
        await cluster.apply(job)
    except (ApplyRefusedError, ApiException) as error:  # such as in a namespace that is deleted itself
        log.warning("%s: the durable consumers stay: %s", job["metadata"]["name"], error)
        return
    events.info(reasons.CONSUMERS_DELETING, f"Job {job['metadata']['name']}: {reasons.CONSUMERS_DELETING.text}")
