"""`marketprism-operator run|render`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

from marketprism_api.dump import dumped
from marketprism_api.load import load
from marketprism_api.pipeline import StoragePipeline
from marketprism_api.problems import ResourceError
from marketprism_api.tiering import TieringPolicy
from marketprism_operator.builders import children
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.config import Config
from marketprism_operator.naming import Manifest

Raw = argparse.RawDescriptionHelpFormatter
RUN = """\
example:  marketprism-operator run --namespace market-data

Settings are in the environment: MARKETPRISM_IMAGE, _PULL_SECRETS, _NAMESPACES, _RESYNC_SECONDS, _PORT, _RELEASE, _PLATFORM_UIDS, _EGRESS.
"""
RENDER = "example:  marketprism-operator render -f pipeline.yaml > children.yaml"
EXAMPLES = "example:  marketprism-operator render -f pipeline.yaml\n          marketprism-operator run"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="marketprism-operator",
        description="Runs StoragePipelines on Kubernetes.",
        epilog=EXAMPLES,
        formatter_class=Raw,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the operator", epilog=RUN, formatter_class=Raw)
    run.add_argument("--namespace", action="append", help="only this one, with a Role; may be given again")
    show = commands.add_parser(
        "render", help="print the children of a resource, offline", epilog=RENDER, formatter_class=Raw
    )
    show.add_argument("-f", "--file", required=True, help="the resources; - reads stdin")
    show.add_argument("--pod-monitors", action="store_true", help="as where the cluster has that API")
    show.add_argument(
        "--config",
        action="append",
        default=[],
        type=_pair,
        metavar="HASH=NAME",
        help="the ConfigMap of Pods that have this config-hash already: they keep it; may be given again",
    )
    arguments = parser.parse_args(argv)
    if arguments.command == "run":
        from marketprism_operator import serve  # `render` needs neither kopf nor a cluster

        return serve.run(Config.from_environment(namespaces=tuple(arguments.namespace or ())))
    try:
        manifests = render(arguments.file, Config.from_environment(), arguments.pod_monitors, dict(arguments.config))
        sys.stdout.write(dumped(*manifests, explicit_start=True))
    except ResourceError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _pair(text: str) -> tuple[str, str]:
    key, given, value = text.partition("=")
    if not given:
        raise argparse.ArgumentTypeError(f"{text!r} is not HASH=NAME")
    return key, value


def render(
    source: str, config: Config, pod_monitors: bool = False, configs: Mapping[str, str] | None = None
) -> list[Manifest]:
    """The children of every resource in `source`. A policy takes the pipeline beside it, or that one's defaults.
    `configs`: as a BuildRequest has them."""
    resources = load(source)
    pipelines = {str(found.metadata.name): found for found in resources if isinstance(found, StoragePipeline)}
    policies = [found for found in resources if isinstance(found, TieringPolicy)]
    manifests: list[Manifest] = []
    for resource in resources:
        policy = resource if isinstance(resource, TieringPolicy) else None
        if policy:
            name = str(policy.spec.pipeline_ref.name)
            pipeline = pipelines.get(name) or StoragePipeline.model_validate({"metadata": {"name": name}})
        else:
            assert isinstance(resource, StoragePipeline)
            pipeline = resource
        own = tuple(found for found in policies if found.spec.pipeline_ref.name == pipeline.metadata.name)
        request = BuildRequest(
            pipeline,
            config.image,
            policy,
            pull_secrets=config.pull_secrets,
            configs=configs or {},
            pod_monitors=pod_monitors,
            policies=own,
            platform=config.platform,
        )
        manifests += children.all_of(request)
    return manifests
