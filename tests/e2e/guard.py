"""Is this cluster a test's? These tests install, kill and delete; on any other cluster they must not start.

A context counts as a test's by its name: kind-*, k3d-*, minikube, docker-desktop, or what MARKETPRISM_TEST_CONTEXT says.
`python -m tests.e2e.guard` exits with 2 and the reason where it isn't.
"""

from __future__ import annotations

import fnmatch
import os
import subprocess
import sys

TESTS = ("kind-*", "k3d-*", "minikube", "docker-desktop")


def is_tests(context: str) -> bool:
    return context == os.environ.get("MARKETPRISM_TEST_CONTEXT") or any(fnmatch.fnmatch(context, one) for one in TESTS)


def refusal() -> str:
    """Why not to start; empty: nothing speaks against it."""
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG is not set: name the test cluster's file"
    done = subprocess.run(["kubectl", "config", "current-context"], capture_output=True, text=True, check=False)
    context = done.stdout.strip()
    if done.returncode or not context:
        return f"there is no current context in {os.environ['KUBECONFIG']}"
    if is_tests(context):
        return ""
    return (
        f"the context {context!r} is not known to be a test's ({', '.join(TESTS)}). If this cluster may be broken: "
        f"MARKETPRISM_TEST_CONTEXT={context}"
    )


if __name__ == "__main__":
    if reason := refusal():
        sys.stderr.write(f"e2e: {reason}\n")
        sys.exit(2)
