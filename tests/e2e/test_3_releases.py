"""The operator comes and goes; what it has set up runs on."""

from __future__ import annotations

import json

import pytest

from tests.e2e import data
from tests.e2e.cluster import NAMESPACE, Failed, find, get, kubectl, names, patch, ready, run, until
from tests.e2e.conftest import RELEASE, ROOT, install


def columns() -> list[str]:
    return kubectl("get", "storagepipeline", "-o", "wide").splitlines()[0].split()


def takes_the_new_field() -> bool:
    """An older definition drops what it doesn't know."""
    given = json.dumps({"spec": {"clickhouse": {"tlsSecretRef": {"name": "clickhouse-auth"}}}})
    made = kubectl("patch", "storagepipeline", "main", "--type=merge", "--dry-run=server", "-o", "json", "-p", given)
    return "tlsSecretRef" in json.loads(made)["spec"]["clickhouse"]


def test_an_upgrade_brings_the_new_definitions_and_leaves_pods_alone() -> None:
    before, pods = columns(), names(find("pod", pipeline="main", component="consumer"))
    assert not takes_the_new_field()
    install(ROOT / "helm", "--set", "namespaces={marketprism-e2e}")
    until("the new definition is served", takes_the_new_field)
    assert columns() == [*before, "MESSAGE"]
    ready("storagepipeline", "main")
    assert names(find("pod", pipeline="main", component="consumer")) == pods


def test_without_the_operator_everything_runs_on() -> None:
    run("helm", "uninstall", *RELEASE, "--wait")
    assert get("storagepipeline", "main")["spec"]["dataTypes"]
    victim, *_ = sorted(names(find("pod", pipeline="main", consumer="fast")))
    kubectl("delete", "pod", victim, "--grace-period=0", "--force")
    data.arriving()
    data.proven()


def test_what_was_asked_for_meanwhile_is_done_when_it_is_back() -> None:
    patch("storagepipeline", "main", {"dataTypes": {"trade": {"batch": {"maxRows": 700}}}})
    kubectl("delete", "service", "main-metrics")
    install(ROOT / "helm")  # for all namespaces this time
    until("the Service is there again", lambda: get("service", "main-metrics"))
    ready("storagepipeline", "main")
    volumes = get("deployment", "main-fast")["spec"]["template"]["spec"]["volumes"]
    (config,) = (volume["configMap"]["name"] for volume in volumes if volume["name"] == "config")
    assert "maxRows: 700" in get("configmap", config)["data"]["pipeline.yaml"]
    data.arriving()


def test_the_switch_to_given_namespaces_and_back_rolls_nothing() -> None:
    pods = names(find("pod", pipeline="main", component="consumer"))
    for options in (["--set", f"namespaces={{{NAMESPACE}}}"], []):
        jobs = names(find("job", pipeline="main", component="schema"))
        install(ROOT / "helm", *options)
        until("it is looked at", lambda before=jobs: names(find("job", pipeline="main", component="schema")) - before)
        ready("storagepipeline", "main")
        assert names(find("pod", pipeline="main", component="consumer")) <= pods


def test_it_is_installed_into_another_namespace_and_rolls_nothing() -> None:
    pods = names(find("pod", pipeline="main", component="consumer"))
    run("helm", "uninstall", *RELEASE, "--wait")
    elsewhere = (RELEASE[0], "--namespace", "marketprism-e2e-elsewhere")
    with pytest.raises(Failed, match="invalid ownership metadata"):
        install(ROOT / "helm", release=elsewhere)
    install(ROOT / "helm", "--take-ownership", release=elsewhere)
    ready("storagepipeline", "main")
    run("helm", "uninstall", *elsewhere, "--wait")
    kubectl("delete", "namespace", elsewhere[2])
    install(ROOT / "helm", "--take-ownership")
    ready("storagepipeline", "main")
    assert names(find("pod", pipeline="main", component="consumer")) <= pods


def test_the_operator_for_all_namespaces_has_no_right_to_secrets() -> None:
    account = f"--as=system:serviceaccount:{RELEASE[2]}:marketprism"
    for namespace in ("default", "kube-system", "marketprism-e2e"):
        with pytest.raises(Failed, match="no"):
            kubectl("auth", "can-i", "get", "secrets", account, namespace=namespace)
