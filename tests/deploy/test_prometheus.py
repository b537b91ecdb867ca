"""Alerts and the dashboard ask for what `/metrics` tells, and real Prometheus answers."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from runpy import run_path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ROOT
from tests.deploy.nginx import free_port
from tests.engines.sounds import sample
from tests.web.clips import SPEECH
from tests.web.test_metrics import ALL
from tests.web.test_stream import converse, pcm

DASHBOARD = ROOT / "deploy" / "grafana" / "nautilus.json"
RULES = ROOT / "deploy" / "prometheus"
NO_METRICS = {"by", "without", "on", "or", "and", "unless", "job"}


def program(name: str) -> str:
    found = shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not here")
    return found


def panels() -> dict[str, str]:
    """Return the expressions of the dashboard by their panels' titles and legends."""
    return {
        f"{panel['title']}: {target['legendFormat']}": target["expr"]
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", ())
    }


def alerts() -> dict[str, str]:
    groups = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


EXPRESSIONS = panels() | alerts()


def names(expression: str) -> set[str]:
    """Return the metrics that an expression asks for: its words but for functions, labels and PromQL's own."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(by|without|on|ignoring) \([^)]*\)', " ", expression)
    return set(re.findall(r"\b[a-z_]{2,}\b(?!\s*\()", bare)) - NO_METRICS


@pytest.fixture(scope="module")
def exposed(fake_server: str) -> set[str]:
    """Names of all series that there may be."""
    text = httpx.get(f"{fake_server}/metrics").text
    seen = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    endings = {"histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "counter": ("",)}
    return seen | {metric.name + ending for metric in ALL for ending in endings[metric.kind]} | {"up"}


def test_the_words_of_an_expression_are_told_apart() -> None:
    expression = 'sum by (le) (rate(a_bucket{x="y_z"}[5m])) / on (q) b_total > 3 or absent(c_d)'
    assert names(expression) == {"a_bucket", "b_total", "c_d"}


@pytest.mark.parametrize("title", EXPRESSIONS)
def test_every_expression_asks_for_what_is_exposed(title: str, exposed: set[str]) -> None:
    asked = names(EXPRESSIONS[title])
    assert asked
    assert asked <= exposed


def test_every_metric_is_on_the_dashboard() -> None:
    asked = {name for expression in panels().values() for name in names(expression)}
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert {metric.name for metric in ALL} <= bare


def test_the_dashboard_is_what_its_script_writes() -> None:
    written = run_path(str(ROOT / "deploy" / "grafana" / "dashboard.py"))["dashboard"]()
    assert json.loads(DASHBOARD.read_text()) == written, "run `python deploy/grafana/dashboard.py`"


@pytest.mark.parametrize("alert", alerts())
def test_every_alert_is_explained(alert: str) -> None:
    assert f"\n### {alert}\n" in (ROOT / "docs" / "operations.md").read_text()


@pytest.mark.parametrize(
    "command",
    [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts.test.yml")],
)
def test_promtool_agrees(command: tuple[str, ...]) -> None:
    answer = subprocess.run([program("promtool"), *command], cwd=RULES, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@contextmanager
def prometheus(folder: Path, target: str, *features: str) -> Iterator[str]:
    """Run Prometheus with our configuration, faster, on one server; its URL."""
    configuration = yaml.safe_load((RULES / "prometheus.yml").read_text())
    configuration["global"] = {"scrape_interval": "500ms", "scrape_timeout": "400ms", "evaluation_interval": "1s"}
    configuration["scrape_configs"][0]["static_configs"] = [{"targets": [target.removeprefix("http://")]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    shutil.copy(RULES / "alerts.yml", folder)
    address = f"127.0.0.1:{free_port()}"
    command = [program("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command += [f"--enable-feature={feature}" for feature in features]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log)
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(20)


def ask(url: str, path: str, **query: str) -> Any:
    """Return what Prometheus answers; nothing as long as it starts."""
    try:
        answer = httpx.get(f"{url}/api/v1/{path}", params=query)
    except httpx.TransportError:
        return {}
    return {} if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer.raise_for_status().json()["data"]


def has_data(url: str, expression: str) -> bool:
    for name, value in (("$__rate_interval", "20s"), ("$instance", ".*"), ("$model", ".*")):
        expression = expression.replace(name, value)
    return any(not isnan(float(series["value"][1])) for series in ask(url, "query", query=expression).get("result", ()))


def load(url: str) -> None:
    httpx.post(f"{url}/transcribe", files={"file": SPEECH.read_bytes()}).raise_for_status()
    converse(url, [pcm(sample())])
    httpx.get(f"{url}/nothing")


def test_real_prometheus_has_data_for_every_panel_and_no_alert_rings(server: str, tmp_path: Path) -> None:
    deadline = time.monotonic() + 45
    silent = {title: expression for title, expression in panels().items() if "nautilus_gpu_" not in expression}
    with prometheus(tmp_path, server) as url:
        while silent and time.monotonic() < deadline:
            load(server)
            silent = {title: expression for title, expression in silent.items() if not has_data(url, expression)}
        assert not silent
        rules = [rule for group in ask(url, "rules")["groups"] for rule in group["rules"]]
    assert {rule["name"]: rule["health"] for rule in rules} == dict.fromkeys(alerts(), "ok")
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
