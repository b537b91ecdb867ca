"""The composition: its form by Compose's own schema, and that its parts name each other as they are."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from nautilus.settings import load_settings
from nautilus.traces.settings import are_wanted
from tests.conftest import ROOT
from tests.deploy.dockerfile import read

FOLDER = ROOT / "deploy" / "compose"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
SERVERS = [name for name in SERVICES if name.startswith("nautilus-")]


@pytest.mark.parametrize("file", ["compose.yaml", "traces.yaml"])
def test_compose_s_schema_accepts_it(file: str) -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    command = [str(checker), "--builtin-schema", "vendor.compose-spec", file]
    answer = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined_and_looked_after(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert "privileged" not in service
    assert ":latest" not in service["image"]
    assert ":" in service["image"]
    assert "healthcheck" in service or name in SERVERS  # theirs is in the image


def test_everything_that_is_mounted_is_there() -> None:
    mounted = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    files = [path for path in mounted if path.startswith(".")]
    assert len(files) == 5
    assert [path for path in files if not (FOLDER / path).exists()] == []
    build = SERVICES["nautilus-1"]["build"]
    assert (FOLDER / build["context"] / build["dockerfile"]).is_file()
    assert (FOLDER / build["context"]).resolve() == ROOT


def test_nginx_and_prometheus_know_the_servers() -> None:
    assert len(SERVERS) == 2
    proxy = (ROOT / "deploy" / "nginx" / "nautilus.conf").read_text()
    watch = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    addresses = {f"{name}:8000" for name in SERVERS}
    assert set(re.findall(r"^    server (\S+)", proxy, re.MULTILINE)) == addresses
    assert set(watch["scrape_configs"][0]["static_configs"][0]["targets"]) == addresses


def test_grafana_s_source_is_the_prometheus_that_is_there() -> None:
    file = ROOT / "deploy" / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
    (source,) = yaml.safe_load(file.read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in SERVICES


def test_every_variable_that_is_asked_for_is_in_the_example() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (FOLDER / "compose.yaml").read_text()))
    given = dict(line.split("=", 1) for line in (FOLDER / "example.env").read_text().splitlines() if "=" in line[:40])
    assert asked == {name for name in given if name.isupper()}
    secrets = {name for name in asked if name.endswith(("PASSWORD", "KEY"))}
    assert {given[name] for name in secrets} == {""}
    demanded = set(re.findall(r"\$\{(\w+):\?", (FOLDER / "compose.yaml").read_text()))
    assert demanded == secrets


def test_the_servers_settings_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    image = read(ROOT / "deploy" / "docker" / "Dockerfile.cpu")[-1].variables()
    given = image | {name: str(value) for name, value in SERVICES["nautilus-1"]["environment"].items()}
    for name, value in given.items():
        if name.startswith("NAUTILUS_"):
            monkeypatch.setenv(name, re.sub(r"\$\{\w+:[-?]([^}]*)\}", r"\1", value))
    settings = load_settings()
    assert settings.host == "0.0.0.0"  # noqa: S104 - of a container
    assert settings.model == "embedded"
    grace = float(SERVICES["nautilus-1"]["stop_grace_period"].removesuffix("s"))
    assert grace > 2 * settings.drain_seconds


def test_the_servers_that_are_traced_are_there_and_send_to_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    services = yaml.safe_load((FOLDER / "traces.yaml").read_text())["services"]
    (collector,) = services.keys() - SERVICES.keys()
    assert set(services) == {*SERVERS, collector}
    for server in SERVERS:
        given = services[server]["environment"]
        assert given["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://{collector}:4318"
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        assert are_wanted(load_settings().traces, os.environ)
