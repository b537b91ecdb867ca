"""What many tests stand on: settings of their own, real speech, servers on free ports, models made once."""

import asyncio
import os
import threading
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import structlog
import uvicorn

import nautilus.resources
from nautilus.assembly import LoadEngine
from nautilus.audio.sandbox import DecodeLimits
from nautilus.engines.base import Engine
from nautilus.engines.bundle import Bundle, read_bundle
from nautilus.engines.fake import FakeEngine
from nautilus.engines.nemo_streaming import NemoStreamingEngine
from nautilus.engines.onnx import OnnxEngine
from nautilus.jobs.job import JobLimits
from nautilus.settings import Settings
from nautilus.storage.blobs import S3Options
from nautilus.storage.settings import StorageSettings
from nautilus.web.app import create_app
from nautilus.web.protocols import ServerConfig
from tests.engines.models import TinyModels
from tests.storage.postgres import Postgres, running_postgres
from tests.storage.s3 import running_s3

# By itself structlog shows errors with all their variables: seconds in which a server under test answers nobody.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

ROOT = Path(__file__).parent.parent


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where every real part must be there; some may be missing anywhere."""
    report = yield
    may_be_missing = any(item.get_closest_marker(part) for part in ("speech", "kubectl", "mount"))
    strict = os.environ.get("NAUTILUS_TEST_STRICT") == "1" and not may_be_missing
    if report.skipped and strict and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which NAUTILUS_TEST_STRICT forbids: {call.excinfo}"
    return report


@pytest.fixture(scope="session")
def speech() -> Path:
    """The folder of real speech, which is not part of the project."""
    folder = Path(os.environ.get("NAUTILUS_TEST_SPEECH", ROOT.parent / "shared" / "speech"))
    if not folder.is_dir():
        pytest.skip("real speech is not here")
    return folder


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings that leave the machine's own folders alone."""
    home = tmp_path_factory.mktemp("nautilus")
    return Settings(
        models_dir=home / "models",
        cache_dir=home / "cache",
        storage=StorageSettings(data_dir=home / "data"),
        jobs=JobLimits(enabled=False),  # one server in a process may work on jobs
        decode=DecodeLimits(workers=2),
        port=0,
        drain_seconds=1,
    )


def fake_engine(*_: object) -> FakeEngine:
    """Take the place of `load_engine`."""
    return FakeEngine()


@contextmanager
def running(settings: Settings, load: LoadEngine | None = None) -> Iterator[str]:
    """Run the whole server on a free port of the loopback, in a thread; its URL."""
    app = create_app(settings, load=load)
    server = uvicorn.Server(ServerConfig(app, settings.http, port=0, timeout_graceful_shutdown=2))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), name="server under test")
    thread.start()
    try:
        deadline = threading.Event()
        while not server.started and thread.is_alive():
            deadline.wait(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, deadline)
        yield url
    finally:
        server.should_exit = True
        thread.join()


def _wait_until_ready(url: str, pause: threading.Event) -> None:
    import httpx

    for _ in range(5000):  # to import NeMo takes a minute on a busy machine
        if httpx.get(f"{url}/health/ready").is_success:
            return
        pause.wait(0.02)
    raise TimeoutError(url)


@pytest.fixture(scope="session")
def fake_server(settings: Settings) -> Iterator[str]:
    """URL of a server whose model hears one word a second."""
    with running(settings, fake_engine) as url:
        yield url


@pytest.fixture(scope="session")
def server(settings: Settings) -> Iterator[str]:
    """URL of a server on the embedded model."""
    with running(settings) as url:
        yield url


@pytest.fixture(scope="session")
def nemo() -> None:
    """NeMo, imported once, which takes half a minute on a busy machine."""
    if find_spec("nemo") is None:
        pytest.skip("NeMo is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some forty, of packages that NeMo imports
        import nemo.collections.asr.models  # noqa: F401 - for its import's sake
        import torch
    torch.set_num_threads(1)  # more wait for each other where other tests run beside


@pytest.fixture(scope="session")
def tiny(nemo: None, tmp_path_factory: pytest.TempPathFactory) -> TinyModels:  # noqa: ARG001 - must be there
    """Tiny models of all families."""
    return TinyModels(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def embedded() -> Bundle:
    """The embedded model."""
    return read_bundle(Path(nautilus.resources.__file__).parent / "embedded")


@pytest.fixture(scope="session")
def embedded_onnx(embedded: Bundle) -> Engine:
    """Our engine on the embedded model."""
    return OnnxEngine(embedded)


@pytest.fixture(scope="session")
def embedded_nemo(nemo: None, embedded: Bundle) -> Engine:  # noqa: ARG001 - must be there
    """NeMo's engine on the embedded model's `.nemo` file."""
    return NemoStreamingEngine(embedded.name, embedded.folder / "model.nemo")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Options]:
    """An S3 API server, and what to reach it by."""
    with running_s3() as options:
        yield options
