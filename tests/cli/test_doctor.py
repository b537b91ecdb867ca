"""`nautilus doctor` on this machine, and on machines that are worse."""

import io
import json
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from rich.console import Console

from nautilus.assembly import assemble
from nautilus.cli import machine, trials
from nautilus.cli.doctor import report
from nautilus.cli.findings import Finding
from nautilus.engines.bundle import Bundle
from nautilus.settings import Settings
from tests.cli.test_commands import elsewhere, run
from tests.conftest import ROOT, fake_engine

__all__ = ["elsewhere"]
GIB = 1024**3


def one(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


def found(*arguments: str) -> tuple[int, dict[str, Finding]]:
    result = run("doctor", "--json", *arguments)
    return result.exit_code, {entry["subject"]: Finding(**entry) for entry in json.loads(result.stdout)}


def test_all_is_well_here() -> None:
    code, findings = found()
    assert (code, [finding for finding in findings.values() if finding.state == "problem"]) == (0, [])
    assert {"settings", "Python", "cores", "memory", "models folder", "port", "clock", "open files"} <= set(findings)
    assert findings["decoder"].state == findings["loading"].state == "ok"
    assert findings["sample"].said.startswith("all 11 words right")


def test_people_get_a_table() -> None:
    result = run("doctor")
    assert result.exit_code == 0
    assert "sample" in result.stdout
    assert "{" not in result.stdout


def test_a_misspelt_setting_is_told_and_the_machine_looked_at_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_WORKERS", "8")
    code, findings = found()
    assert code == 1
    assert "NAUTILUS_WORKERS" in findings["settings"].said
    assert findings["clock"].state == "ok"
    assert "sample" not in findings


def test_a_model_that_there_is_not_is_a_problem() -> None:
    code, findings = found("--model", "nonsense")
    assert (code, findings["model"].state) == (1, "problem")


def test_a_model_that_was_not_fetched_is_not_fetched_for_a_check() -> None:
    code, findings = found("--model", "nvidia/parakeet-tdt-0.6b-v3")
    assert (code, findings["model"].state) == (0, "warning")
    assert findings["model"].advice == "nautilus models pull nvidia/parakeet-tdt-0.6b-v3"
    assert "loading" not in findings


def test_a_model_that_can_t_be_fetched_is_a_problem(settings: Settings) -> None:
    wanted = {"model": "nvidia/parakeet-tdt-0.6b-v3", "offline": True}
    assert one(machine.models(settings.model_copy(update=wanted))).state == "problem"


def test_a_model_that_can_t_be_loaded_is_a_problem(embedded: Bundle, tmp_path: Path) -> None:
    shutil.copytree(embedded.folder, tmp_path / "broken")
    (tmp_path / "broken" / "streaming.onnx").write_bytes(b"nonsense")
    # In a process of its own: what is logged goes to where its first line went, which here would be gone afterwards.
    command = [sys.executable, "-m", "nautilus", "doctor", "--json", "--model", str(tmp_path / "broken")]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    states = [(finding["subject"], finding["state"]) for finding in json.loads(answer.stdout)]
    assert answer.returncode == 1
    assert [subject for subject, state in states if state == "problem"] == ["model"]
    assert ("decoder", "ok") in states


async def test_a_model_that_hears_something_else_is_a_problem(settings: Settings) -> None:
    async with assemble(settings, fake_engine) as core:
        findings = [finding async for finding in trials.hearing(core)]
    assert [(finding.subject, finding.state) for finding in findings] == [("loading", "ok"), ("sample", "problem")]
    assert "zero one two" in findings[-1].said


def test_the_sample_is_that_of_the_benchmarks() -> None:
    for name in ("sample.flac", "sample.txt"):
        assert trials.SAMPLE.with_name(name).read_bytes() == (ROOT / "benchmarks" / name).read_bytes()


def test_a_port_that_another_has_is_a_problem(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = settings.model_copy(update={"port": other.getsockname()[1]})
        assert one(machine.port(taken)).state == "problem"


def test_a_port_that_a_running_server_has_is_fine(settings: Settings, fake_server: str) -> None:
    finding = one(machine.port(settings.model_copy(update={"port": urlsplit(fake_server).port})))
    assert (finding.state, finding.said.partition(": ")[2]) == ("ok", "a server is running")


def test_a_folder_that_can_t_be_made_is_a_problem(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    findings = machine.folders(settings.model_copy(update={"cache_dir": tmp_path / "file" / "cache"}))
    states = {finding.subject: finding.state for finding in findings}
    assert states == {"models folder": "ok", "cache folder": "problem", "temporary folder": "ok"}


def test_few_open_files_are_a_warning(settings: Settings) -> None:
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, most))
    try:
        assert one(machine.open_files(settings)).state == "warning"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


def test_a_container_has_what_it_may_use_not_what_the_machine_has(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable: 8388608 kB\n")
    assert machine.memory_left(tmp_path / "meminfo", tmp_path) == 8 * GIB
    assert machine.quota(tmp_path) is None
    (tmp_path / "memory.max").write_text(f"{2 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{GIB}\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert machine.memory_left(tmp_path / "meminfo", tmp_path) == GIB
    assert machine.quota(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.quota(tmp_path) is None
    assert machine._cores(8, 1.5).state == "warning"
    assert machine._cores(8, None).state == "ok"


def test_what_is_told_is_shown_as_it_is() -> None:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(report([Finding("model", "problem", "[red] is no model", "choose [another]")]))
    shown = console.export_text()
    assert "problem" in shown
    assert "[red] is no model" in shown
    assert "→ choose [another]" in shown
