"""The chart, as `helm template` renders it. `make e2e` installs it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from marketprism_api.load import parse
from marketprism_api.pipeline import StoragePipeline
from marketprism_api.settings import effective
from marketprism_operator import lease

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"
pytestmark = pytest.mark.skipif(not shutil.which("helm"), reason="helm is not installed: the chart is not rendered")

Manifest = dict[str, Any]
TEST = 'test={"enabled":true}'


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["helm", *arguments], capture_output=True, text=True, check=False)


def rendered(*values: str) -> list[Manifest]:
    """Every object of a release named m in the namespace n."""
    setting = [part for value in values for part in ("--set-json", value)]
    done = helm("template", "m", str(CHART), "--namespace", "n", "--kube-version", "1.36.0", *setting)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def of(kind: str, manifests: list[Manifest]) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def rights(rules: list[Manifest]) -> set[tuple[str, str]]:
    return {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}


def test_lint_is_content() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


def test_the_definitions_are_those_of_crds() -> None:
    made = {path.name: yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml")}
    found = {
        f"{manifest['spec']['names']['plural']}.yaml": manifest
        for manifest in of("CustomResourceDefinition", rendered())
    }
    for manifest in found.values():
        assert manifest["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert found == made


@pytest.mark.parametrize(("value", "kept"), [('crds={"install":false}', None), ('crds={"keep":false}', False)])
def test_the_definitions_may_stay_out_or_go_with_the_release(value: str, kept: bool | None) -> None:
    found = of("CustomResourceDefinition", rendered(value))
    assert len(found) == (0 if kept is None else 2)
    assert all("annotations" not in manifest["metadata"] for manifest in found)


def test_namespaced_mode_needs_roles_alone() -> None:
    found = rendered('namespaces=["a","b"]')
    assert not of("ClusterRole", found)
    assert not of("ClusterRoleBinding", found)
    assert [manifest["metadata"]["namespace"] for manifest in of("Role", found)] == ["a", "b"]
    assert [manifest["metadata"]["namespace"] for manifest in of("RoleBinding", found)] == ["a", "b"]
    assert all(
        manifest["subjects"] == [{"kind": "ServiceAccount", "name": "m", "namespace": "n"}]
        for manifest in of("RoleBinding", found)
    )


@pytest.mark.parametrize("values", [(), ('namespaces=["a"]', "replicas=2")])
def test_the_operator_hands_out_no_rights_and_runs_nothing_inside_pods(values: tuple[str, ...]) -> None:
    found = rendered(*values)
    for role in of("ClusterRole", found) + of("Role", found):
        for resource, verb in rights(role["rules"]):
            assert "*" not in (resource, verb)
            assert verb not in ("escalate", "bind", "impersonate")
            assert not resource.endswith(("roles", "rolebindings", "pods/exec", "pods/attach", "serviceaccounts/token"))


def test_the_cluster_role_has_no_right_to_secrets_unless_asked_for() -> None:
    def secrets(*values: str) -> set[str]:
        return {
            verb
            for role in of("ClusterRole", rendered(*values))
            for what, verb in rights(role["rules"])
            if what == "secrets"
        }

    assert secrets() == set()
    assert secrets('rbac={"watchSecrets":true}') == {"get", "list", "watch"}


def test_what_is_rendered_for_kubectl_runs_no_test() -> None:
    assert not of("Pod", rendered())
    assert all("helm.sh/hook" not in manifest["metadata"].get("annotations", {}) for manifest in rendered())
    (test,) = of("Pod", rendered(TEST))
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"


def test_pods_meet_the_restricted_standard() -> None:
    found = rendered(TEST)
    pods = [of("Deployment", found)[0]["spec"]["template"]["spec"], of("Pod", found)[0]["spec"]]
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}


def contexts(found: list[Manifest]) -> list[Manifest]:
    pods = [of("Deployment", found)[0]["spec"]["template"]["spec"], of("Pod", found)[0]["spec"]]
    return [pod["securityContext"] for pod in pods]


def variables(found: list[Manifest]) -> dict[str, str]:
    (container,) = of("Deployment", found)[0]["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable.get("value", "") for variable in container["env"]}


def test_no_uid_is_asked_for_where_the_platform_gives_one() -> None:
    assert all(context["runAsUser"] == context["runAsGroup"] == 65532 for context in contexts(rendered(TEST)))
    assert "MARKETPRISM_PLATFORM_UIDS" not in variables(rendered())
    for options in (("--set-json", "platformUids=true"), ("--api-versions", "security.openshift.io/v1")):
        done = helm("template", "m", str(CHART), "--kube-version", "1.36.0", "--set-json", TEST, *options)
        assert done.returncode == 0, done.stderr
        found = [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
        given = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        assert contexts(found) == [given, given]
        assert variables(found)["MARKETPRISM_PLATFORM_UIDS"] == "true"


def test_security_contexts_are_values() -> None:
    found = rendered(
        TEST,
        'podSecurityContext={"runAsUser":12345,"supplementalGroups":[7]}',
        'securityContext={"procMount":"Default"}',
    )
    assert all((each["runAsUser"], each["supplementalGroups"]) == (12345, [7]) for each in contexts(found))
    (container,) = of("Deployment", found)[0]["spec"]["template"]["spec"]["containers"]
    assert container["securityContext"]["procMount"] == "Default"


def test_the_operator_is_told_whether_pipelines_connect_to_what_they_name_only() -> None:
    assert "MARKETPRISM_EGRESS" not in variables(rendered())
    assert variables(rendered('networkPolicy={"pipelineEgress":true}'))["MARKETPRISM_EGRESS"] == "true"


def test_liveness_and_readiness_are_told_apart() -> None:
    (container,) = of("Deployment", rendered())[0]["spec"]["template"]["spec"]["containers"]
    paths = [container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")]
    assert paths == ["/healthz", "/readyz"]


def leases(found: list[Manifest]) -> set[tuple[str, str]]:
    """Namespace and name of each that it may take."""
    return {
        (role["metadata"]["namespace"], name)
        for role in of("Role", found)
        for rule in role["rules"]
        if rule["resources"] == ["leases"]
        for name in rule.get("resourceNames", [])
    }


def test_operators_meet_at_a_lease_whatever_their_releases() -> None:
    assert leases(rendered()) == {(lease.HOME, lease.OF_ALL)}
    assert leases(rendered('namespaces=["a","b"]')) == {(name, lease.IN_A_NAMESPACE) for name in ("a", "b")}
    assert variables(rendered())["MARKETPRISM_RELEASE"] == "n/m"


def test_images_are_told_by_tag_or_digest() -> None:
    digest = "sha256:" + "0" * 64
    found = rendered('image={"tag":"1"}', f'consumerImage={{"digest":"{digest}"}}')
    container = of("Deployment", found)[0]["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "ghcr.io/marketprism/marketprism-operator:1"
    assert {"name": "MARKETPRISM_IMAGE", "value": f"ghcr.io/marketprism/marketprism-consumer@{digest}"} in container[
        "env"
    ]


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed: nothing runs a kustomization")
def test_images_of_a_kustomization_reach_the_consumers(tmp_path: Path) -> None:
    for file in ("install.yaml", "kustomize/images.yaml"):
        shutil.copy(ROOT / "deploy" / file, tmp_path)
    images = [
        {"name": f"ghcr.io/marketprism/marketprism-{part}", "newName": f"elsewhere/{part}", "newTag": "7"}
        for part in ("operator", "consumer")
    ]
    kustomization = {"resources": ["install.yaml"], "configurations": ["images.yaml"], "images": images}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    built = subprocess.run(["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True, check=True).stdout
    found = list(yaml.safe_load_all(built))
    assert of("Deployment", found)[0]["spec"]["template"]["spec"]["containers"][0]["image"] == "elsewhere/operator:7"
    assert variables(found)["MARKETPRISM_IMAGE"] == "elsewhere/consumer:7"


def test_alerts_and_dashboards_come_where_they_are_wanted() -> None:
    assert not of("PrometheusRule", rendered()) + of("ConfigMap", rendered())
    found = rendered('alerts={"enabled":true,"labels":{"release":"p"}}', 'dashboards={"enabled":true}')
    (rule,), (dashboards,) = of("PrometheusRule", found), of("ConfigMap", found)
    assert rule["metadata"]["labels"]["release"] == "p"
    assert rule["spec"] == yaml.safe_load((ROOT / "monitoring/alerts.yaml").read_text())
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboards["data"] == {path.name: path.read_text() for path in (ROOT / "monitoring/dashboards").iterdir()}


CONSOLE = {
    "enabled": True,
    "spec": {
        "clickhouse": {"url": "http://hot:8123", "authSecretRef": {"name": "hot"}, "tlsSecretRef": {"name": "ca"}},
        "nats": {"url": "nats://nats:4222", "authSecretRef": {"name": "nats"}},
    },
    "cold": {"url": "http://cold:8123", "authSecretRef": {"name": "cold"}},
}


def console(part: str, values: Manifest) -> Manifest:
    """The object of this kind that is the console's."""
    found = of(part, rendered("console=" + json.dumps(values)))
    return next(each for each in found if each["metadata"]["name"] == "m-console")


def test_the_console_comes_where_it_is_wanted_and_looks_at_what_it_is_given() -> None:
    assert not [each for each in rendered() if "console" in each["metadata"]["name"]]
    (pipeline,) = parse(console("ConfigMap", CONSOLE)["data"]["pipeline.yaml"])
    assert isinstance(pipeline, StoragePipeline)
    pod = console("Deployment", CONSOLE)["spec"]["template"]["spec"]
    secrets: dict[str, list[str]] = {}
    for volume in pod["volumes"]:
        for each in volume.get("projected", {}).get("sources", []):
            secrets.setdefault(volume["name"], []).append(each["secret"]["name"])
    assert secrets == {"clickhouse-auth": ["hot", "ca"], "clickhouse-cold-auth": ["cold"], "nats-auth": ["nats"]}
    (container,) = pod["containers"]
    mounted = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    environ = {each["name"]: each["value"] for each in container["env"]}
    for name in ("CLICKHOUSE", "CLICKHOUSE_COLD", "NATS"):
        directory = environ[f"MARKETPRISM_{name}_AUTH_DIR"]
        assert mounted.pop(directory) == directory.rpartition("/")[2] + "-auth"
    assert environ["HOME"] in mounted, "it writes nowhere else"
    seen = effective(pipeline, environ)
    assert (seen.nats_url, seen.clickhouse_urls, seen.cold_urls) == (
        "nats://nats:4222",
        ("http://hot:8123",),
        ("http://cold:8123",),
    )


def test_only_a_port_forward_reaches_the_console() -> None:
    deployment = console("Deployment", CONSOLE)
    pod = deployment["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert "--host" not in container["args"], "another address than loopback needs a token"
    assert all("exec" in container[probe] for probe in ("livenessProbe", "readinessProbe")), "loopback, too"
    assert console("NetworkPolicy", CONSOLE)["spec"]["ingress"] == []
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    service = console("Service", CONSOLE)["spec"]
    assert [(each["port"], each["targetPort"]) for each in service["ports"]] == [(8080, container["ports"][0]["name"])]
    labels = pod["metadata"]["labels"].items()
    selecting = [
        each["metadata"]["name"]
        for each in rendered("console=" + json.dumps(CONSOLE))
        if each["kind"] in ("Service", "Deployment", "NetworkPolicy", "PodDisruptionBudget")
        for by in [each["spec"].get("podSelector") or each["spec"]["selector"]]
        if by.get("matchLabels", by).items() <= labels
    ]
    assert set(selecting) == {"m-console"}, "and nothing of the operator's"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('console={"enabled":true}', "console.spec.clickhouse.url is needed"),
        ('console={"cold":{"authSecretRef":"cold"}}', "/console/cold/authSecretRef"),
        ('imag={"tag":"1"}', "additional properties 'imag' not allowed"),
        ('image={"repository":"a","tagg":"1"}', "additional properties 'tagg' not allowed"),
        ('replicas="2"', "/replicas"),
        ('namespaces="a"', "/namespaces"),
        ('namespaces=["A b"]', "/namespaces/0"),
        ("resyncSeconds=1", "/resyncSeconds"),
        ('image={"digest":"abc"}', "/image/digest"),
        ('serviceAccount={"create":false}', "serviceAccount.name is needed"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(value: str, said: str) -> None:
    done = helm("template", "m", str(CHART), "--kube-version", "1.36.0", "--set-json", value)
    assert done.returncode != 0
    assert said in done.stderr
