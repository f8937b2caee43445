"""The cluster, through the user's own `kubectl`, which knows contexts, proxies and every way to log in, and calls the plugin anyway."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, TypeAlias

from marketprism_api.meta import GROUP
from marketprism_api.pipeline import StoragePipeline
from marketprism_api.tiering import TieringPolicy
from marketprism_consumer.errors import KubernetesError

KubeObject: TypeAlias = dict[str, Any]

PIPELINE = f"{GROUP}/pipeline"
POLICY = f"{GROUP}/policy"
CONSUMER = f"{GROUP}/consumer"
PAUSE = f"{GROUP}/pause"
RUN_NOW = f"{GROUP}/run-now"
COMPONENT = "app.kubernetes.io/component"
MANAGED_BY = "app.kubernetes.io/managed-by"
OPERATOR = "marketprism-operator"

TYPES: Mapping[str, str] = {
    name: f"{kind.PLURAL}.{GROUP}"
    for kind in (StoragePipeline, TieringPolicy)
    for name in (kind.SHORT_NAME, kind.KIND.lower(), kind.PLURAL)
}
"""What a resource's type may be called → what kubectl is asked for."""
PIPELINES, POLICIES = TYPES[StoragePipeline.SHORT_NAME], TYPES[TieringPolicy.SHORT_NAME]


@dataclass(frozen=True, slots=True)
class Kubectl:
    """Empty `context` and `namespace`: those of the kubeconfig. Every call raises KubernetesError where it is refused."""

    context: str = ""
    namespace: str = ""

    def command(self, *arguments: str) -> list[str]:
        where = {"--context": self.context, "--namespace": self.namespace}
        return ["kubectl", *(f"{option}={value}" for option, value in where.items() if value), *arguments]

    def run(self, *arguments: str, stdin: str = "") -> str:
        """What it prints."""
        try:
            done = subprocess.run(self.command(*arguments), input=stdin, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise KubernetesError("kubectl is not on the PATH: install it", usage=True) from None
        if done.returncode:
            raise refusal(done.stderr)
        return done.stdout

    def get(self, what: str, name: str) -> KubeObject:
        found: KubeObject = json.loads(self.run("get", what, name, "--output=json"))
        return found

    def select(self, what: str, labels: Mapping[str, str] | None = None, *more: str) -> list[KubeObject]:
        selector = f"--selector={selection(labels or {})}"
        found: list[KubeObject] = json.loads(self.run("get", what, selector, *more, "--output=json"))["items"]
        return found

    def create(self, manifest: KubeObject) -> KubeObject:
        made: KubeObject = json.loads(self.run("create", "--filename=-", "--output=json", stdin=json.dumps(manifest)))
        return made

    def annotate(self, what: str, name: str, change: str) -> None:
        """`change` as `key=value`, or `key-` to take it away."""
        self.run("annotate", what, name, change, "--overwrite")

    def existing(self, manifests: Iterable[KubeObject]) -> list[KubeObject]:
        """Those of them that are there, as they are there."""
        said = self.run("get", "--filename=-", "--ignore-not-found", "--output=json", stdin=listed(manifests))
        return items(said)

    def dry_run(self, manifests: Iterable[KubeObject]) -> list[KubeObject]:
        """What would be there if the operator applied them."""
        apply = ("apply", "--server-side", "--dry-run=server", "--force-conflicts", f"--field-manager={OPERATOR}")
        return items(self.run(*apply, "--filename=-", "--output=json", stdin=listed(manifests)))

    def serves(self, group_version: str) -> bool:
        """Whether the cluster has that API."""
        try:
            self.run("get", "--raw", f"/apis/{group_version}")
        except KubernetesError as refused:
            if refused.usage:  # not found
                return False
            raise
        return True

    @contextmanager
    def lines(self, *arguments: str) -> Iterator[Iterator[str]]:
        """What it prints, line by line, while it prints. Its end is looked at where all lines were taken."""
        with subprocess.Popen(
            self.command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            assert process.stderr
            try:
                yield iter(process.stdout)
            except BaseException:
                process.terminate()
                raise
            _ended(process.wait(), process.stderr)


def _ended(code: int, stderr: IO[str]) -> None:
    if code:
        raise refusal(stderr.read())


def refusal(stderr: str) -> KubernetesError:
    """What kubectl said. What it is asked wrongly is told from what the cluster does not let it do."""
    said = stderr.strip() or "kubectl failed, and said nothing"
    local = said.startswith("error: ") and "logged in" not in said
    ours = (
        "(NotFound)",
        "(Invalid)",
        "(BadRequest)",
        " is invalid:",
        "doesn't have a resource type",
        '" does not exist',
    )
    return KubernetesError(said, usage=local or any(each in said for each in ours))


def selection(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())


def listed(manifests: Iterable[KubeObject]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})


def items(said: str) -> list[KubeObject]:
    """Of a List, of one object, or of nothing."""
    found: KubeObject = json.loads(said) if said.strip() else {"items": []}
    several: list[KubeObject] = found.get("items", [found])
    return several
