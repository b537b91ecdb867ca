"""The manifests: what they name is there, and what pods are promised is what the server does."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from nautilus.settings import Settings, load_settings
from tests.conftest import ROOT
from tests.deploy.dockerfile import read
from tests.deploy.test_prometheus import names
from tests.web.test_metrics import ALL

FOLDER = ROOT / "deploy" / "kubernetes"
FILES = [file for file in sorted(FOLDER.rglob("*.yaml")) if file.name != "kustomization.yaml"]
OBJECTS: list[dict[str, Any]] = [one for file in FILES for one in yaml.safe_load_all(file.read_text())]


def one(kind: str) -> dict[str, Any]:
    (found,) = [thing for thing in OBJECTS if thing["kind"] == kind]
    return found


POD: dict[str, Any] = one("StatefulSet")["spec"]["template"]["spec"]
CONTAINER: dict[str, Any] = POD["containers"][0]


def customization(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return content


def test_every_file_is_part_of_a_customization() -> None:
    folders = [file.parent for file in FOLDER.rglob("kustomization.yaml")]
    listed = {folder / name for folder in folders for name in customization(folder)["resources"]}
    assert listed == set(FILES)


@pytest.mark.kubectl
def test_kustomize_builds_it_with_and_without_its_components(tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("kubectl is not here")
    shutil.copytree(FOLDER, tmp_path / "all")
    main = tmp_path / "all" / "kustomization.yaml"
    main.write_text(main.read_text().replace("#components", "components"))
    for folder, kinds in ((FOLDER, 6), (tmp_path / "all", 8)):
        built = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=True)
        objects = list(yaml.safe_load_all(built.stdout))
        assert len(objects) == kinds
        pods = next(thing for thing in objects if thing["kind"] == "StatefulSet")["spec"]
        services = [thing["spec"]["selector"] for thing in objects if thing["kind"] == "Service"]
        assert [pods["template"]["metadata"]["labels"]] * 2 == services
        budget = next(thing for thing in objects if thing["kind"] == "PodDisruptionBudget")["spec"]
        assert pods["selector"]["matchLabels"] == budget["selector"]["matchLabels"] == services[0]
        assert pods["template"]["spec"]["containers"][0]["image"] == "nautilus:cpu"


def test_probes_ask_what_the_server_answers(fake_server: str) -> None:
    asked = {CONTAINER[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert asked == {"/health/live", "/health/ready"}
    assert [httpx.get(fake_server + path).status_code for path in sorted(asked)] == [200, 200]
    assert CONTAINER["livenessProbe"]["httpGet"]["path"] == "/health/live"  # loading is no reason to be killed


def test_pods_are_those_of_the_image_and_confined() -> None:
    image = read(ROOT / "deploy" / "docker" / "Dockerfile.cpu")[-1]
    assert image.last("USER") == f"{POD['securityContext']['runAsUser']}:{POD['securityContext']['runAsGroup']}"
    assert image.last("EXPOSE") == str(CONTAINER["ports"][0]["containerPort"])
    assert {mount["mountPath"] for mount in CONTAINER["volumeMounts"]} == {"/data", "/tmp"}  # noqa: S108 - the image's
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["automountServiceAccountToken"] is False


def pod_settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    literals = customization(FOLDER)["configMapGenerator"][0]["literals"]
    given = dict(line.split("=", 1) for line in literals) | {one["name"]: one["value"] for one in CONTAINER["env"]}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_settings_are_settings_and_fit_what_a_pod_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = pod_settings(monkeypatch)
    cores = int(CONTAINER["resources"]["limits"]["cpu"])
    assert settings.batch.workers == settings.decode.workers == cores
    assert POD["terminationGracePeriodSeconds"] > 2 * settings.drain_seconds + 10


def test_servers_are_added_by_metrics_that_there_are() -> None:
    asked = [names(trigger["metadata"]["query"]) for trigger in one("ScaledObject")["spec"]["triggers"]]
    assert asked == [{"nautilus_queue_windows"}, {"nautilus_live_taken_ratio"}]
    assert set.union(*asked) <= {metric.name for metric in ALL}
    assert one("ScaledObject")["spec"]["scaleTargetRef"] == {"kind": "StatefulSet", "name": "nautilus"}
