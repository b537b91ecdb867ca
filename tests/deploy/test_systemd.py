"""The unit: systemd understands it, it is confined, and the server bears what it is denied."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nautilus.settings import load_settings
from tests.conftest import ROOT
from tests.deploy.wheels import clean_environment

UNIT = ROOT / "deploy" / "systemd" / "nautilus.service"
MOST_EXPOSED = 2.0
"""Of 10, by systemd's own counting."""
WITHOUT_NEW_CODE = """
import ctypes, os, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN: since Linux 6.3
    sys.exit(77)
os.execv(sys.executable, [sys.executable, "-m", "nautilus", "doctor"])
"""


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if not program:
        pytest.skip("systemd-analyze is not here")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/nautilus/bin/nautilus", sys.executable))
    answer = analyze("verify", "--man=no", str(unit))
    assert (answer.returncode, answer.stderr) == (0, "")


def test_the_service_is_confined() -> None:
    told = analyze("security", "--offline=true", str(UNIT)).stdout
    found = re.search(r"Overall exposure level for nautilus\.service: ([\d.]+)", told)
    assert found
    assert float(found[1]) <= MOST_EXPOSED


def test_models_and_decoders_need_no_memory_that_is_both_written_and_run(tmp_path: Path) -> None:
    assert "MemoryDenyWriteExecute=yes" in UNIT.read_text()
    environment = clean_environment() | {"PYTHONPATH": str(ROOT / "src"), "NAUTILUS_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", WITHOUT_NEW_CODE]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode == 77:
        pytest.skip("this kernel can't deny it to a process")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "all 11 words right" in answer.stdout


def test_its_settings_are_settings_and_it_waits_for_the_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    text = UNIT.read_text()
    for name, value in re.findall(r"(NAUTILUS_[A-Z_]+)=(\S+)", text):
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.log_format == "json"
    (patience,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert int(patience) > 2 * settings.drain_seconds
