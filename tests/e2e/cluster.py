"""kubectl and helm as people use them, and waiting for what they show."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any, TypeVar

from tests.waiting import PATIENCE, wait_for

NAMESPACE = "marketprism-e2e"
Manifest = dict[str, Any]
T = TypeVar("T")


class Failed(Exception):
    """A command that did not succeed, with what it said."""


def run(*command: str, given: str | None = None, seconds: float = 2 * PATIENCE) -> str:
    """Its stdout. Raises Failed."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def kubectl(*arguments: str, given: str | None = None, namespace: str = NAMESPACE) -> str:
    return run("kubectl", "--namespace", namespace, *arguments, given=given)


def apply(*manifests: Manifest) -> None:
    kubectl("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))


def get(kind: str, name: str) -> Manifest:
    found: Manifest = json.loads(kubectl("get", kind, name, "-o", "json"))
    return found


def find(kind: str, **labels: str) -> list[Manifest]:
    """By labels of ours: `component="consumer"`, `pipeline="main"`, `consumer="fast"`."""
    keys = {"component": "app.kubernetes.io/component"}
    selector = ",".join(f"{keys.get(key, f'storage.marketprism.io/{key}')}={value}" for key, value in labels.items())
    found: list[Manifest] = json.loads(kubectl("get", kind, "-l", selector, "-o", "json"))["items"]
    return found


def names(manifests: list[Manifest]) -> set[str]:
    return {one["metadata"]["name"] for one in manifests}


def condition(resource: Manifest, kind: str) -> Manifest:
    """Empty where there is none, or where it is about an earlier spec."""
    found = resource.get("status", {}).get("conditions", [])
    generation = resource["metadata"]["generation"]
    return next((one for one in found if one["type"] == kind and one["observedGeneration"] == generation), {})


def patch(kind: str, name: str, spec: Manifest) -> None:
    kubectl("patch", kind, name, "--type", "merge", "-p", json.dumps({"spec": spec}))


def until(what: str, look: Callable[[], T], *, seconds: float = PATIENCE) -> T:
    """The first true thing that `look` returns; an error after so many seconds. What may take long is looked at less often: each
    look is a kubectl or two."""
    return wait_for(look, lambda: f"{what}\n{state()}\n", seconds, every=max(0.3, seconds / 300), passes=(Failed,))


def ready(kind: str, name: str, *, seconds: float = PATIENCE) -> Manifest:
    """The resource, once it is Ready as it is specified now."""

    def look() -> Manifest | None:
        one = get(kind, name)
        return one if condition(one, "Ready").get("status") == "True" else None

    return until(f"{kind} {name} is Ready", look, seconds=seconds)


def reason(kind: str, name: str, of: str, wanted: str, *, seconds: float = PATIENCE) -> str:
    """Waits for a condition's reason; returns its message."""

    def look() -> str | None:
        found = condition(get(kind, name), of)
        return found["message"] if found.get("reason") == wanted else None

    return until(f"{of} of {kind} {name} is {wanted}", look, seconds=seconds)


def rolled_out(name: str) -> None:
    kubectl("rollout", "status", f"deployment/{name}", f"--timeout={PATIENCE:.0f}s")


def state() -> str:
    """For people, where a test fails."""
    shown = [run("kubectl", "get", "pods", "-A")]
    for kind in ("storagepipeline", "tieringpolicy"):
        for one in json.loads(kubectl("get", kind, "-o", "json"))["items"]:
            shown.append(f"{kind} {one['metadata']['name']}")
            shown += [
                f"  {c['type']}={c['status']} {c['reason']}: {c['message']}"
                for c in one.get("status", {}).get("conditions", [])
            ]
    return "\n".join(shown)
