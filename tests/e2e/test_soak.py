"""Whatever may happen to a pipeline, for half an hour, under load, in an order that a seed decides. After it nothing is lost or double, all
is Ready, and nothing is written any more.

MARKETPRISM_SOAK_SECONDS and MARKETPRISM_SOAK_SEED; MARKETPRISM_SOAK_API_SERVER is a command that kills the cluster's API server and
starts it again, without which that is left out.
"""

from __future__ import annotations

import json
import os
import random
import re
import secrets
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e import data
from tests.e2e.cluster import Failed, Manifest, apply, condition, find, get, kubectl, names, patch, ready, run, until
from tests.e2e.conftest import RELEASE, ROOT, install
from tests.e2e.test_1_install import policy

SECONDS = float(os.environ.get("MARKETPRISM_SOAK_SECONDS", "1800"))
SEED = int(os.environ.get("MARKETPRISM_SOAK_SEED") or secrets.randbelow(1_000_000))
API_SERVER = os.environ.get("MARKETPRISM_SOAK_API_SERVER", "")
LONG = (
    450.0  # [s] until everything is well again: a kubelet waits up to 300 s before it starts again what has ended often
)
OPERATOR = ("-l", "app.kubernetes.io/instance=marketprism")
CHILDREN = ("service/main-metrics", "pdb/main-fast", "serviceaccount/main-storage", "deployment/main-slow")
KINDS = ("storagepipeline", "deployment", "configmap", "service", "serviceaccount", "pdb", "networkpolicy", "job")

Fault = Callable[[random.Random, Path], None]


# --- what happens -----------------------------------------------------------------------------------------------------


def the_operator_is_killed(_: random.Random, __: Path) -> None:
    kubectl("delete", "pod", *OPERATOR, "--grace-period=0", "--force", namespace=RELEASE[2])


def the_operator_is_stopped(_: random.Random, __: Path) -> None:
    kubectl("delete", "pod", *OPERATOR, "--wait=false", namespace=RELEASE[2])


def a_consumer_is_killed(chance: random.Random, _: Path) -> None:
    kubectl("delete", "pod", a_consumer(chance), "--grace-period=0", "--force")


def a_consumer_is_stopped(chance: random.Random, _: Path) -> None:
    kubectl("delete", "pod", a_consumer(chance), "--wait=false")


def a_consumer(chance: random.Random) -> str:
    found = sorted(names(find("pod", pipeline="main", component="consumer")))
    if not found:
        raise Failed("there is no consumer")
    return chance.choice(found)


def nats_crashes(_: random.Random, __: Path) -> None:
    kubectl("exec", "nats", "--", "bash", "-c", "kill -QUIT 1")  # it leaves as it stands


def nats_is_restarted(_: random.Random, __: Path) -> None:
    kubectl("exec", "nats", "--", "bash", "-c", "kill -TERM 1")


def clickhouse_is_restarted(_: random.Random, __: Path) -> None:
    kubectl("exec", "clickhouse", "--", "bash", "-c", "kill -TERM 1")


def the_api_server_is_killed(_: random.Random, __: Path) -> None:
    run("bash", "-c", API_SERVER)


def the_spec_is_edited(chance: random.Random, _: Path) -> None:
    name, rows = chance.choice(("trade", "orderbook", "funding_rate")), chance.randrange(100, 5000)
    patch("storagepipeline", "main", {"dataTypes": {name: {"batch": {"maxRows": rows}}}})


def a_wrong_spec_is_mended(_: random.Random, __: Path) -> None:
    for name in ("nowhere", "clickhouse-auth"):
        patch("storagepipeline", "main", {"clickhouse": {"authSecretRef": {"name": name}}})


def a_deployment_is_restarted(chance: random.Random, _: Path) -> None:
    kubectl("rollout", "restart", chance.choice(("deployment/main-fast", "deployment/main-slow")))


def a_child_is_deleted(chance: random.Random, _: Path) -> None:
    kubectl("delete", chance.choice(CHILDREN))


def a_child_is_edited(_: random.Random, __: Path) -> None:
    kubectl("set", "env", "deployment/main-fast", "CLICKHOUSE_HOT_DB=elsewhere")


def it_is_paused_for_a_while(_: random.Random, __: Path) -> None:
    kubectl("annotate", "storagepipeline", "main", "storage.marketprism.io/pause=true", "--overwrite")
    until("it is paused", lambda: condition(get("storagepipeline", "main"), "Paused"), seconds=LONG)
    kubectl("annotate", "storagepipeline", "main", "storage.marketprism.io/pause-")


def it_is_suspended_for_a_while(_: random.Random, __: Path) -> None:
    patch("storagepipeline", "main", {"suspend": True})
    until("all Pods have gone", lambda: not find("pod", pipeline="main", component="consumer"), seconds=LONG)
    patch("storagepipeline", "main", {"suspend": False})


def the_node_is_drained(_: random.Random, __: Path) -> None:
    """Of what is ours: there is no other node, so that what a disruption budget holds stays."""
    node = get("pod", "nats")["spec"]["nodeName"]
    ours = "--pod-selector=app.kubernetes.io/managed-by=marketprism-operator"
    with suppress(Failed):
        run("kubectl", "drain", node, ours, "--timeout=15s", "--delete-emptydir-data", "--force", "--ignore-daemonsets")
    run("kubectl", "uncordon", node)


def the_chart_goes_back_and_forth(_: random.Random, older: Path) -> None:
    install(older)
    install(ROOT / "helm")


FAULTS: tuple[Fault, ...] = (
    the_operator_is_killed,
    the_operator_is_stopped,
    a_consumer_is_killed,
    a_consumer_is_stopped,
    nats_crashes,
    nats_is_restarted,
    clickhouse_is_restarted,
    *((the_api_server_is_killed,) if API_SERVER else ()),
    the_spec_is_edited,
    a_wrong_spec_is_mended,
    a_deployment_is_restarted,
    a_child_is_deleted,
    a_child_is_edited,
    it_is_paused_for_a_while,
    it_is_suspended_for_a_while,
    the_node_is_drained,
    the_chart_goes_back_and_forth,
)

Happened = tuple[str, float, float]
"""A fault by its name, from when to when [s since 1970]."""
WEARS_OFF = 120.0  # [s] after a fault an error may still be its


class Cause(NamedTuple):
    """What an error may say that is made here. `of`: the faults that it comes from; none: whenever."""

    said: str
    of: tuple[str, ...] = ()


def status(codes: str, said: str = "") -> str:
    """An answer of the API server with one of these codes, as its clients write it, and such words."""
    answered = rf"\((?:{codes})\)\s+Reason: |['\"]code['\"]: ?(?:{codes})\b"
    return rf"(?s)\A(?=.*(?:{answered}))(?=.*(?:{said}))"


NO_API_SERVER = (the_api_server_is_killed.__name__,)
ROLES_ARE_REPLACED = (*NO_API_SERVER, the_chart_goes_back_and_forth.__name__, "all is put right")
CAUSES = (
    Cause(r"Cannot connect|Connect call failed|Connection refused|ConnectionReset|Server disconnected|TimeoutError"),
    Cause(r"apiserver is shutting down|storage is \(re\)initializing"),
    Cause(status("401|429|500|503"), NO_API_SERVER),
    # A right that we have not, and not what a quota or a policy of the cluster forbids.
    Cause(status("403", 'is forbidden: User \\\\?"system:serviceaccount:'), ROLES_ARE_REPLACED),
    # The definitions themselves, and not one of the resources.
    Cause(status("404", "could not find the requested resource|404 page not found"), ROLES_ARE_REPLACED),
)


# --- what is seen -----------------------------------------------------------------------------------------------------


@contextmanager
def operator_log() -> Iterator[list[str]]:
    """Its lines, of whatever Pod it runs in."""
    lines: list[str] = []
    ended = threading.Event()
    following: list[subprocess.Popen[str]] = []

    def follow() -> None:
        command = ["kubectl", "--namespace", RELEASE[2], "logs", "deployment/marketprism", "--follow"]
        while not ended.is_set():
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            following[:] = [process]
            assert process.stdout
            for line in process.stdout:
                if line not in lines[-1000:]:  # a Pod that is followed again begins from its start
                    lines.append(line)
            process.wait()
            ended.wait(0.3)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        ended.set()
        for process in following:
            process.terminate()
        thread.join(10)


def unexplained(lines: list[str], happened: list[Happened]) -> list[str]:
    """Errors whose cause is none of those that were made here, at that time. A traceback is part of its error; its last line says
    the cause."""
    errors: list[list[str]] = []
    beginning = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\S* (\w+) ")
    for line in lines:
        if found := beginning.match(line):
            errors.append([line] if found[2] in ("ERROR", "CRITICAL") else [])
        elif errors and errors[-1]:
            errors[-1].append(line)

    def explained(error: str) -> bool:
        began = beginning.match(error)
        assert began
        at = datetime.fromisoformat(f"{began[1]}+00:00").timestamp()
        around = {name for name, start, end in happened if start - 1 <= at <= end + WEARS_OFF}
        return any(re.search(cause.said, error) and (not cause.of or around & {*cause.of}) for cause in CAUSES)

    return [said for error in errors if error and not explained(said := "".join(error))]


def versions() -> dict[str, str]:
    """What is written of the pipeline and its children, by resourceVersion."""
    found: dict[str, str] = {}
    for kind in KINDS:
        items: list[Manifest] = json.loads(kubectl("get", kind, "-o", "json"))["items"]
        found |= {f"{kind}/{one['metadata']['name']}": one["metadata"]["resourceVersion"] for one in items}
    return found


def looks() -> float:
    """How often the operator has looked at a pipeline."""
    ask = "import urllib.request; print(urllib.request.urlopen('http://marketprism-metrics.{}:8080/metrics').read().decode())"
    text = kubectl("exec", "tools", "--", "python", "-c", ask.format(RELEASE[2]))
    found = re.findall(r'^marketprism_operator_reconciles_total\{kind="StoragePipeline".*\} (\S+)$', text, re.MULTILINE)
    return sum(map(float, found))


# --- the soak ---------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(SECONDS + 3600)
def test_nothing_of_all_that_happens_is_left(
    cluster: None, older_chart: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def tell(line: str) -> None:
        with capsys.disabled():
            print(line, flush=True)

    tell(f"\nMARKETPRISM_SOAK_SEED={SEED}")
    chance = random.Random(SEED)
    install()
    kubectl("apply", "-f", str(ROOT / "examples/pipeline.yaml"))
    ready("storagepipeline", "main", seconds=LONG)
    apply(policy("loop", every="30s", tables=["trades"]))
    data.start_feed()
    with operator_log() as log:
        happened = soak(chance, older_chart, tell)
        began = time.time()
        nothing_is_left_half_done()
        happened.append(("all is put right", began, time.time()))
        ready("storagepipeline", "main", seconds=LONG)
        ready("tieringpolicy", "loop", seconds=LONG)
        data.arriving()
        account = data.stop_feed()
        until("nothing is pending", lambda: not sum(one["pending"] for one in data.audit()["types"]), seconds=LONG)
        kubectl("delete", "tieringpolicy", "--all")
        until("no migration is at work", lambda: not find("pod", component="migrate"))
        report = data.proven("--deep")
        at_rest(tell)
        ready("storagepipeline", "main")
    held = sum(one["held"] for one in report["types"])
    tell(f"{len(happened)} faults in {SECONDS:.0f} s: {dict(Counter(name for name, _, _ in happened))}")
    tell(
        f"{account['stored']:,} messages acknowledged, {len(account['unknown'])} in doubt; {held:,} held, each stored once"
    )
    tell(f"{len(log):,} lines of the operator's log, {sum(' ERROR ' in line for line in log)} errors")
    assert account["stored"] <= held <= account["stored"] + len(account["unknown"])
    assert unexplained(log, happened) == []


def soak(chance: random.Random, older_chart: Path, tell: Callable[[str], None]) -> list[Happened]:
    """One thing after the other, in ever another order; half of the time the next comes before all is well again."""
    happened: list[Happened] = []
    began = time.monotonic()
    order: list[Fault] = []
    while time.monotonic() - began < SECONDS:
        order = order or chance.sample(FAULTS, len(FAULTS))
        fault = order.pop()
        at, start = time.monotonic() - began, time.time()
        try:
            fault(chance, older_chart)
        except Failed as failed:  # such as the exec into a container that is not there at the moment
            tell(f"{at:5.0f} s  {fault.__name__}: {str(failed).splitlines()[-1]}")
        else:
            tell(f"{at:5.0f} s  {fault.__name__}")
        happened.append((fault.__name__, start, time.time()))
        time.sleep(chance.uniform(0, 10))  # it is the load's time that is given, there is no condition to wait for
        if chance.random() < 0.5:
            ready("storagepipeline", "main", seconds=LONG)
    return happened


def nothing_is_left_half_done() -> None:
    """Where the second half of something could not be done, as with no API server."""
    until("the API server answers", lambda: get("pod", "nats"), seconds=LONG)
    run("kubectl", "uncordon", get("pod", "nats")["spec"]["nodeName"])
    kubectl("annotate", "storagepipeline", "main", "storage.marketprism.io/pause-")
    patch("storagepipeline", "main", {"suspend": False, "clickhouse": {"authSecretRef": {"name": "clickhouse-auth"}}})
    install()


def at_rest(tell: Callable[[str], None]) -> None:
    """Several looks, resyncs among them, write nothing: not at once, since numbers are renewed once more a minute after the last row."""

    def still() -> bool:
        before, seen = versions(), looks()
        until("the operator looks again", lambda: looks() >= seen + 3, seconds=LONG)
        changed = {name for name, version in versions().items() if before.get(name) != version}
        if changed:
            tell(f"still written: {', '.join(sorted(changed))}")
        return not changed

    until("nothing is written", still, seconds=LONG)
