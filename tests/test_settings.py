from ipaddress import ip_network
from pathlib import Path

import pytest

from nautilus.errors import ConfigurationError
from nautilus.outside.limits import OutsideLimits
from nautilus.settings import load_settings


def test_defaults_listen_on_the_loopback_only() -> None:
    settings = load_settings()
    assert (settings.host, settings.port, settings.model) == ("127.0.0.1", 8000, "embedded")
    assert settings.models_dir.is_absolute()


def test_the_environment_sets_rooms_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAUTILUS_BATCH__MAX_ITEMS", "7")
    monkeypatch.setenv("NAUTILUS_AUDIO__MAX_SECONDS", "60")
    monkeypatch.setenv("NAUTILUS_MODELS_DIR", str(tmp_path))
    settings = load_settings()
    assert (settings.batch.max_items, settings.audio.max_seconds, settings.models_dir) == (7, 60.0, tmp_path)


def test_lists_of_rooms_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_OUTSIDE__NETWORKS", '["10.1.0.0/16", "fd00::/8"]')
    monkeypatch.setenv("NAUTILUS_OUTSIDE__PORTS", "[]")
    outside = load_settings().outside
    assert outside == OutsideLimits(networks=(ip_network("10.1.0.0/16"), ip_network("fd00::/8")), ports=())


def test_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_PORT", "9000")
    assert load_settings(port=9001).port == 9001
    assert load_settings(port=None).port == 9000


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("NAUTILUS_PROT", "1"),
        ("NAUTILUS_PORT", "many"),
        ("NAUTILUS_BATCH__MAX_ITEM", "1"),
        ("NAUTILUS_PREPROCESS", "x"),
        ("NAUTILUS_OUTSIDE__PORTS", "80"),
        ("NAUTILUS_OUTSIDE__PORTS", "[80"),
        ("NAUTILUS_OUTSIDE__NETWORKS", '["10.0.0.1/8"]'),
    ],
)
def test_a_mistake_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=variable):
        load_settings()


def test_what_commands_read_that_talk_to_a_server_is_no_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAUTILUS_API_KEY", "nau_1")
    monkeypatch.setenv("NAUTILUS_URL", "http://server")
    assert load_settings().host == "127.0.0.1"
