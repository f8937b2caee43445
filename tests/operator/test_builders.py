"""The children of the examples, as whole files; and what every Pod must be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from marketprism_api.data_types import BUILT_IN
from marketprism_api.dump import dumped
from marketprism_api.pipeline import StoragePipeline
from marketprism_api.tiering import TieringPolicy
from marketprism_operator import naming
from marketprism_operator.builders import (
    children,
    config_map,
    deployment,
    network_policy,
    pod,
    pod_disruption_budget,
    pod_monitor,
    schema_job,
    tiering,
    validation,
)
from marketprism_operator.builders.overlay import overlaid
from marketprism_operator.builders.request import BuildRequest
from marketprism_operator.cli import main, render
from marketprism_operator.config import Config, Platform

HERE = Path(__file__).parent
EXAMPLES = sorted((HERE.parent.parent / "examples").glob("*.yaml"))
SOURCES = {path.stem: str(path) for path in EXAMPLES} | {path.stem: str(path) for path in HERE.glob("resources/*.yaml")}


def children_of(name: str) -> list[dict[str, Any]]:
    return render(SOURCES[name], Config(), pod_monitors=True)


@pytest.mark.parametrize("name", SOURCES)
def test_golden(name: str, update_golden: bool) -> None:
    golden = HERE / "golden" / f"{name}.yaml"
    text = dumped(*children_of(name), explicit_start=True)
    if update_golden:
        golden.write_text(text)
    assert text == golden.read_text(), "look at the difference; if it is right: pytest tests/operator --update-golden"


def pods() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name in SOURCES:
        for child in children_of(name):
            spec = child.get("spec", {})
            spec = spec.get("jobTemplate", {}).get("spec", spec)
            if "template" in spec:
                found.append((f"{name} {child['kind']} {child['metadata']['name']}", spec["template"]["spec"]))
    return found


@pytest.mark.parametrize(("where", "spec"), pods())
def test_every_pod_is_restricted(where: str, spec: dict[str, Any]) -> None:
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert spec["terminationGracePeriodSeconds"] >= 30
    for container in spec["containers"]:
        assert ":" in container["image"].rpartition("/")[2]
        assert not container["image"].endswith(":latest")
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
        assert container["resources"]["limits"].keys() >= {"memory"}
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not any("valueFrom" in env for env in container["env"]), "a secret's value is never in the environment"


def pipeline(**spec: Any) -> StoragePipeline:
    return StoragePipeline.model_validate({"metadata": {"name": "main", "namespace": "n", "uid": "u"}, "spec": spec})


def request(versions: dict[str, str] | None = None, **spec: Any) -> BuildRequest:
    return BuildRequest(pipeline(**spec), "image:1", versions=versions or {})


TWO = {
    "fast": {"dataTypes": ["trade"], "replicas": 2},
    "slow": {"dataTypes": ["orderbook"]},
}


def template_of(made: BuildRequest, consumer: str) -> dict[str, Any]:
    found: dict[str, Any] = deployment.build(made, consumer, dict(made.pipeline.spec.carriers)[consumer])["spec"][
        "template"
    ]  # type: ignore[index]
    return found


def read_already(made: BuildRequest) -> dict[str, str]:
    """What the Pods of `made` read, by their config hash."""
    workloads = (child for child in children.all_of(made) if child["kind"] in ("Job", "CronJob", "Deployment"))
    templates = [pod.template_of(workload) for workload in workloads]
    return {each["metadata"]["annotations"][naming.CONFIG_HASH]: pod.config_of(each) for each in templates}


def test_what_pods_read_never_changes_under_them() -> None:
    before, after = request(), request(schema={"mode": "Verify"})
    first, second = config_map.build(before), config_map.build(after)
    assert first["immutable"] is True
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert set(read_already(before).values()) == {first["metadata"]["name"]}
    assert set(read_already(after).values()) == {second["metadata"]["name"]}


def test_an_edit_rolls_exactly_the_pods_concerned() -> None:
    types: dict[str, Any] = {"trade": {}, "orderbook": {}}
    before = request(consumers=TWO, dataTypes=types)
    after = request(consumers=TWO, dataTypes={"trade": {"batch": {"maxRows": 7}}, "orderbook": {}})
    after = replace(after, configs=read_already(before))
    assert template_of(before, "fast") != template_of(after, "fast")
    assert template_of(before, "slow") == template_of(after, "slow")
    assert schema_job.build(before) == schema_job.build(after)


def test_an_edit_of_a_type_of_ones_own_runs_the_schema_job_again_and_rolls_who_carries_it() -> None:
    def of(field: dict[str, Any]) -> BuildRequest:
        consumers = {"fast": {"dataTypes": ["trade"]}, "slow": {"dataTypes": ["kline"]}}
        return request(dataTypes={"trade": {}, "kline": {"fields": {"open": field}}}, consumers=consumers)

    before = of({"type": "UInt64"})
    elsewhere, another = (
        replace(of(field), configs=read_already(before))
        for field in ({"type": "UInt64", "from": ["o"]}, {"type": "Nullable(UInt64)"})
    )
    for after in (elsewhere, another):
        assert template_of(after, "fast") == template_of(before, "fast")
        assert template_of(after, "slow") != template_of(before, "slow")
    assert schema_job.build(elsewhere) == schema_job.build(before), "the table is the same"
    assert schema_job.build(another)["metadata"]["name"] != schema_job.build(before)["metadata"]["name"]


def test_a_secret_rolls_the_pods_that_mount_it() -> None:
    spec: dict[str, Any] = {"nats": {"authSecretRef": {"name": "a"}}, "consumers": None}
    before, after = request({"Secret/a": "1"}, **spec), request({"Secret/a": "2"}, **spec)
    assert template_of(before, "default") != template_of(after, "default")
    assert schema_job.build(before) != schema_job.build(after), "whether NATS takes it is checked again"


def test_what_only_the_overlay_of_one_consumer_names_rolls_only_that_one() -> None:
    env = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "extra", "key": "x"}}}]
    over = {"spec": {"containers": [{"name": "consumer", "env": env}]}}
    consumers = {"fast": {"dataTypes": ["trade"], "podTemplate": over}, "slow": {"dataTypes": ["orderbook"]}}
    spec: dict[str, Any] = {"consumers": consumers, "dataTypes": {"trade": {}, "orderbook": {}}}
    before, after = request({"Secret/extra": "1"}, **spec), request({"Secret/extra": "2"}, **spec)
    assert template_of(before, "fast") != template_of(after, "fast")
    assert template_of(before, "slow") == template_of(after, "slow")


def test_absence() -> None:
    made = request(consumers=TWO, dataTypes={"trade": {}, "orderbook": {}})
    carriers = dict(made.pipeline.spec.carriers)
    alone = carriers["slow"].model_copy(update={"replicas": 1})  # type: ignore[index]
    assert pod_disruption_budget.build(made, "fast", carriers["fast"])  # type: ignore[index]
    assert pod_disruption_budget.build(made, "slow", alone) is None
    assert pod_monitor.build(made) is None


def test_suspend_leaves_no_pod_and_changes_nothing_else() -> None:
    running, standing = request(), request(suspend=True)
    assert template_of(running, "default") == template_of(standing, "default")
    (found,) = [child for child in children.workloads(standing) if child["kind"] == "Deployment"]
    assert found["spec"]["replicas"] == 0


def test_owned_and_labelled_by_us_only() -> None:
    labelled = StoragePipeline.model_validate(
        {"metadata": {"name": "main", "uid": "u", "labels": {"app.kubernetes.io/instance": "argo"}}}
    )
    for child in children.all_of(BuildRequest(labelled, "image:1")):
        assert child["metadata"]["ownerReferences"][0]["uid"] == "u"
        assert "app.kubernetes.io/instance" not in child["metadata"]["labels"]


def test_overlay_is_strategic() -> None:
    base = {"containers": [{"name": "a", "image": "x", "env": [{"name": "A", "value": "1"}]}], "keep": 1, "gone": 2}
    over = {"containers": [{"name": "a", "env": [{"name": "B", "value": "2"}]}, {"name": "b"}], "gone": None}
    assert overlaid(base, over) == {
        "containers": [
            {"name": "a", "image": "x", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"name": "b"},
        ],
        "keep": 1,
    }


def test_an_overlay_may_not_take_the_selector_away() -> None:
    over = {"metadata": {"labels": {naming.PIPELINE: "other", "mine": "yes"}}}
    made = request(consumers={"default": {"dataTypes": ["trade"], "podTemplate": over}}, dataTypes={"trade": {}})
    labels = template_of(made, "default")["metadata"]["labels"]
    assert labels[naming.PIPELINE] == "main"
    assert labels["mine"] == "yes"


def tiering_request(annotation: str = "", **spec: Any) -> BuildRequest:
    annotations = {naming.RUN_NOW: annotation} if annotation else {}
    policy = TieringPolicy.model_validate(
        {"metadata": {"name": "main", "annotations": annotations}, "spec": {"pipelineRef": {"name": "main"}, **spec}}
    )
    return BuildRequest(pipeline(), "image:1", policy)


def policy(name: str, **cold: Any) -> TieringPolicy:
    spec = {"pipelineRef": {"name": "main"}, "every": "1m", "cold": cold}
    return TieringPolicy.model_validate({"metadata": {"name": name}, "spec": spec})


def cold_of(template: dict[str, Any]) -> tuple[str, list[str]]:
    """The URL that the container is given, and the Secrets with what it takes there."""
    (container,) = template["spec"]["containers"]
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    directory = env.get("MARKETPRISM_CLICKHOUSE_COLD_AUTH_DIR", "")
    volume = next((m["name"] for m in container["volumeMounts"] if m["mountPath"] == directory), "")
    sources = [v["projected"]["sources"] for v in template["spec"]["volumes"] if v["name"] == volume]
    secrets = [source["secret"]["name"] for each in sources for source in each]
    return env.get("CLICKHOUSE_COLD_HTTP_URL", ""), secrets


def test_consumers_know_cold_where_it_is_on_another_server() -> None:
    cold = {"url": "http://cold:8123", "authSecretRef": {"name": "cold-auth"}}
    made = BuildRequest(
        pipeline(validation={"schedule": "15 0 * * *"}), "image:1", policies=(policy("a"), policy("b", **cold))
    )
    assert cold_of(template_of(made, "default")) == ("http://cold:8123", ["cold-auth"])
    validates = (validation.build(made) or {})["spec"]["jobTemplate"]["spec"]["template"]
    for other in (schema_job.build(made)["spec"]["template"], validates):
        assert cold_of(other) == ("", [])
    alone = BuildRequest(made.pipeline, "image:1", policies=(policy("a"),))
    assert template_of(alone, "default") == template_of(BuildRequest(made.pipeline, "image:1"), "default")


def test_of_several_cold_servers_the_first_policy_s_by_name_serves() -> None:
    policies = (policy("b", url="http://b:8123", authSecretRef={"name": "b"}), policy("a", url="http://a:8123"))
    assert cold_of(template_of(BuildRequest(pipeline(), "image:1", policies=policies), "default")) == (
        "http://a:8123",
        [],
    )


def test_cold_s_secret_rolls_the_consumers() -> None:
    policies = (policy("a", url="http://cold:8123", authSecretRef={"name": "cold-auth"}),)
    before, after = (
        BuildRequest(pipeline(), "image:1", policies=policies, versions={"Secret/cold-auth": version})
        for version in ("1", "2")
    )
    assert template_of(before, "default") != template_of(after, "default")
    assert schema_job.build(before) == schema_job.build(after)


def test_each_value_of_run_now_is_a_job_beside_the_cron_job() -> None:
    cron = {"schedule": "*/5 * * * *"}
    assert tiering.run_now(tiering_request(**cron)) is None
    first, second = (tiering.run_now(tiering_request(value, **cron)) for value in ("1", "2"))
    assert first
    assert second
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert tiering.build(tiering_request("1", **cron)) == tiering.build(tiering_request(**cron))
    assert tiering.run_now(tiering_request("1", suspend=True, **cron)) is None


def test_run_now_restarts_a_loop() -> None:
    plain, asked = tiering.build(tiering_request(every="6h")), tiering.build(tiering_request("1", every="6h"))
    assert plain["spec"]["template"] != asked["spec"]["template"]
    assert tiering.run_now(tiering_request("1", every="6h")) is None


def test_names_fit_and_differ() -> None:
    long = naming.joined("p" * 63, "c" * 30)
    assert len(long) <= 63
    assert long != naming.joined("p" * 63, "d" * 30)


def test_render(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["render", "-f", SOURCES["minimal"]]) == 0
    kinds = [child["kind"] for child in yaml.safe_load_all(capsys.readouterr().out)]
    assert kinds == [
        *("ServiceAccount", "ConfigMap", "Job", "NetworkPolicy", "Service", "Deployment", "PodDisruptionBudget")
    ]
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "apiVersion: storage.marketprism.io/v1alpha1\nkind: StoragePipeline\nmetadata: {name: x}\nspec: {a: 1}\n"
    )
    assert main(["render", "-f", str(bad)]) == 2
    assert "there is no such field" in capsys.readouterr().err


# --- validation -------------------------------------------------------------------------------------------------------


def test_validation_is_a_cron_job_where_it_is_scheduled() -> None:
    assert validation.build(request()) is None
    made = validation.build(request(validation={"schedule": "15 0 * * *", "timeZone": "Asia/Shanghai"}))
    assert made
    assert (made["kind"], made["metadata"]["name"]) == ("CronJob", "main-validate")
    assert (made["spec"]["schedule"], made["spec"]["timeZone"]) == ("15 0 * * *", "Asia/Shanghai")
    assert made["spec"]["suspend"] is False
    assert made["spec"]["concurrencyPolicy"] == "Forbid"
    assert made["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 0, "findings are no reason to look again at once"


@pytest.mark.parametrize("spec", [{"suspend": True}, {"validation": {"schedule": "15 0 * * *", "suspend": True}}])
def test_nothing_is_validated_while_it_is_suspended(spec: dict[str, Any]) -> None:
    made = validation.build(request(**{"validation": {"schedule": "15 0 * * *"}, **spec}))
    assert made
    assert made["spec"]["suspend"] is True


SHARED = {
    "metadata": {"annotations": {"team": "data", "level": "pipeline"}},
    "spec": {"tolerations": [{"key": "market"}], "nodeSelector": {"pool": "a"}, "imagePullSecrets": [{"name": "pull"}]},
}


def test_a_pipelines_pod_template_is_under_every_pod_and_a_parts_own_on_top() -> None:
    own = {"metadata": {"annotations": {"level": "consumer"}}, "spec": {"nodeSelector": {"pool": "b"}}}
    shared = pipeline(
        podTemplate=SHARED,
        validation={"schedule": "15 0 * * *"},
        consumers={"a": {"dataTypes": list(BUILT_IN), "podTemplate": own}},
    )
    of_policy = tiering_request(every="30s").policy
    found = {
        "schema": schema_job.build(BuildRequest(shared, "image:1"))["spec"]["template"],
        "consumer": deployment.build(BuildRequest(shared, "image:1"), "a", shared.spec.carriers["a"])["spec"][
            "template"
        ],  # type: ignore[index]
        "validate": (validation.build(BuildRequest(shared, "image:1")) or {})["spec"]["jobTemplate"]["spec"][
            "template"
        ],
        "migrate": tiering.build(BuildRequest(shared, "image:1", of_policy))["spec"]["template"],
    }
    for part, template in found.items():
        assert template["spec"]["tolerations"] == [{"key": "market"}], part
        assert template["spec"]["imagePullSecrets"] == [{"name": "pull"}], part
        assert template["metadata"]["annotations"]["team"] == "data", part
        assert template["spec"]["nodeSelector"]["pool"] == ("b" if part == "consumer" else "a"), part
        assert template["metadata"]["annotations"]["level"] == ("consumer" if part == "consumer" else "pipeline"), part


def test_a_pipelines_pod_template_names_no_container() -> None:
    with pytest.raises(ValueError, match="laid over every Pod"):
        pipeline(podTemplate={"spec": {"containers": [{"name": "consumer"}]}})


def test_pods_may_connect_to_what_the_spec_names_where_the_operator_is_told_so() -> None:
    spec = {
        "nats": {
            "url": "nats://10.0.0.7,tls://[fd00::7]:4223,nats://nats:4222,nats://nats-0.nats.messaging.svc.cluster.local"
        },
        "clickhouse": {"url": "http://clickhouse.databases,https://ch.example.com"},
    }
    assert network_policy.build(request(**spec))["spec"]["policyTypes"] == ["Ingress"]
    made = network_policy.build(replace(request(**spec), platform=Platform(egress=True)))["spec"]
    assert made["policyTypes"] == ["Ingress", "Egress"]

    def of_namespace(name: str) -> dict[str, Any]:
        return {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}]}

    def at(port: int) -> dict[str, Any]:
        return {"ports": [{"port": port, "protocol": "TCP"}]}

    dns, *found = made["egress"]
    assert {(each["port"], each["protocol"]) for each in dns["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert found == [
        # A Service, or a host elsewhere: nothing that is needed may be refused.
        of_namespace("databases"),
        at(8123),
        at(8443),
        {"to": [{"ipBlock": {"cidr": "10.0.0.7/32"}}], **at(4222)},
        {"to": [{"ipBlock": {"cidr": "fd00::7/128"}}], **at(4223)},
        of_namespace("n"),
        of_namespace("messaging"),
    ]


@pytest.mark.parametrize("host", ["a_b", "a..svc", "x.b_c.svc"])
def test_a_host_that_is_no_name_of_a_service_is_allowed_by_its_port(host: str) -> None:
    assert network_policy.rules(f"http://{host}:1", "n") == [{"ports": [{"port": 1, "protocol": "TCP"}]}]


def test_pods_ask_for_no_uid_where_the_platform_gives_one() -> None:
    context = pod_of(request())["securityContext"]
    assert {context[key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {65532}
    given = pod_of(replace(request(), platform=Platform(uids=True)))["securityContext"]
    assert given == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def pod_of(made: BuildRequest) -> dict[str, Any]:
    spec: dict[str, Any] = template_of(made, "default")["spec"]
    return spec
