"""compose.yaml without a Docker daemon: what it starts exists, waits for what it needs, and listens on this machine only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from marketprism_api.load import load, load_pipeline
from marketprism_api.settings import effective
from marketprism_api.tiering import TieringPolicy
from marketprism_consumer.cli import app

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"] == "marketprism-consumer"}
FILE = ROOT / "deploy" / "compose" / "pipeline.yaml"
TOOLS = Path(os.environ.get("MARKETPRISM_TOOLS", Path.home() / ".cache" / "marketprism-tools"))
LOOPS = {"consumer-fast", "consumer-slow", "tiering", "validation"}


def docker_compose() -> list[str]:
    """The plugin, or the program of that name. Skips, with the reason, where neither is."""
    if found := shutil.which("docker-compose", path=f"{TOOLS}{os.pathsep}{os.environ['PATH']}"):
        return [found]
    if (
        shutil.which("docker")
        and not subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    ):
        return ["docker", "compose"]
    pytest.skip("NOT TESTED: `docker compose` is not installed, so it was not asked whether compose.yaml is valid")


def test_docker_compose_takes_it() -> None:
    command = [
        *docker_compose(),
        "--file",
        str(ROOT / "compose.yaml"),
        "--profile",
        "demo",
        "config",
        "--format",
        "json",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "warn" not in ran.stderr.lower()
    assert set(yaml.safe_load(ran.stdout)["services"]) == set(SERVICES)


def test_the_whole_stack_is_there() -> None:
    assert set(SERVICES) == {
        *("nats", "clickhouse", "schema", "consumer-fast", "consumer-slow", "tiering", "validation", "feed"),
        *("prometheus", "grafana"),
    }
    assert {name for name, one in SERVICES.items() if "profiles" in one} == {"feed"}, (
        "all but the feed start with one command"
    )


@pytest.mark.parametrize("name", OURS)
def test_a_command_line_is_one_of_ours(name: str) -> None:
    words = [str(word) for word in OURS[name]["command"]]
    command: Any = typer.main.get_command(app)
    context = command.context_class(command, info_name="marketprism")
    while hasattr(command, "list_commands"):
        word = words.pop(0)
        command = command.get_command(context, word)
        assert command, f"no such command: {word}"
    parsed = command.make_context(name, words).params
    if name in LOOPS:
        assert (parsed["host"], parsed["port"]) == ("0.0.0.0", 9464)


def test_the_consumers_carry_every_type_once() -> None:
    settings = effective(load_pipeline(FILE), {})
    named = [
        one["command"][one["command"].index("--consumer") + 1]
        for one in OURS.values()
        if "--consumer" in one["command"]
    ]
    assert sorted(named) == sorted(settings.consumers)
    assert len([t for name in named for t in settings.consumers[name]]) == 8


def test_the_file_holds_the_pipeline_and_its_policy() -> None:
    kinds = [one.KIND for one in load(FILE)]
    assert kinds == ["StoragePipeline", "TieringPolicy"]
    (policy,) = (one for one in load(FILE) if isinstance(one, TieringPolicy))
    assert policy.spec.pipeline_ref.name == load_pipeline(FILE).metadata.name
    every = SERVICES["tiering"]["command"][SERVICES["tiering"]["command"].index("--every") + 1]
    assert str(policy.spec.every) == every


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_open_to_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@pytest.mark.parametrize("name", SERVICES)
def test_what_stays_up_is_looked_after(name: str) -> None:
    one = SERVICES[name]
    if name in ("schema", "feed"):
        return
    assert one["healthcheck"]["test"][0] == "CMD"
    assert one["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_what_is_there_and_can_say_that_it_is_ready(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        else:
            assert (how["condition"], SERVICES[other]["restart"]) == ("service_completed_successfully", "on-failure")


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_no_rights(name: str) -> None:
    one = OURS[name]
    assert (one["read_only"], one["cap_drop"], one["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_is_there_and_data_is_in_a_named_volume(name: str) -> None:
    for mount in SERVICES[name].get("volumes", ()):
        source, _, rest = mount.partition(":")
        if source.startswith("./"):
            assert (ROOT / source).exists()
            assert rest.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned_and_no_password_is_in_the_file(name: str) -> None:
    one = SERVICES[name]
    assert name in OURS or re.search(r":v?\d+\.\d+", one["image"])
    for variable, value in one.get("environment", {}).items():
        if "PASSWORD" in variable:
            assert re.fullmatch(r"\$\{[A-Z_]+:-\w+\}", value), "it can be given from outside"


def test_all_that_serves_metrics_is_scraped_and_the_rules_are_loaded() -> None:
    config = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    (targets,) = (one["targets"] for one in job["static_configs"])
    assert sorted(targets) == sorted(f"{name}:9464" for name in LOOPS)
    assert re.fullmatch(".*marketprism.*", job["job_name"]), "what the alert on `up` looks for"
    mounted = [mount.split(":")[1] for mount in SERVICES["prometheus"]["volumes"]]
    assert set(config["rule_files"]) <= set(mounted)


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    promtool = shutil.which("promtool", path=f"{TOOLS}{os.pathsep}{os.environ['PATH']}")
    if not promtool:
        pytest.skip("NOT TESTED: promtool is not installed; `make monitoring-tools` builds it where Go is")
    config = (ROOT / "deploy/compose/prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(
        config.replace("/etc/prometheus/alerts.yaml", str(ROOT / "monitoring/alerts.yaml"))
    )
    ran = subprocess.run(
        [promtool, "check", "config", str(tmp_path / "prometheus.yml")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    mounted = dict(mount.split(":")[:2] for mount in SERVICES["grafana"]["volumes"])
    provider = yaml.safe_load((ROOT / "deploy/compose/grafana/dashboards.yaml").read_text())["providers"][0]
    assert provider["options"]["path"] == mounted["./monitoring/dashboards"]
    (source,) = yaml.safe_load((ROOT / "deploy/compose/grafana/datasources.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
