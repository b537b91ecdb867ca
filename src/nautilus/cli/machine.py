"""What `nautilus doctor` looks at before anything runs: packages, processor, memory, disks, port, clock."""

import os
import platform
import resource
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Final

import httpx
from packaging.requirements import Requirement

from nautilus import __version__
from nautilus.cli.findings import Finding, State, ok
from nautilus.engines.catalog import Catalog
from nautilus.errors import NautilusError
from nautilus.hubs.space import in_units
from nautilus.runtime.calibrate import cores
from nautilus.settings import Settings

SHOWN: Final = ("onnxruntime", "numpy", "av", "fastapi", "uvicorn")
"""Packages whose versions explain most."""
MISSING: Final = "missing"
GIB: Final = 1024**3
LITTLE_MEMORY: Final = GIB
LITTLE_SPACE: Final = 2 * GIB
NO_SPACE: Final = GIB // 10
FEW_FILES: Final = 4096
BUILT: Final = 1_760_000_000
"""Seconds since 1970 at a moment before this was written: no clock that is right shows less."""
CGROUP: Final = Path("/sys/fs/cgroup")


def packages(_: Settings) -> Iterator[Finding]:
    """Look for every package that we stand on, in a version that will do."""
    shown = ", ".join(f"{name} {_version(name)}" for name in SHOWN)
    yield ok("Python", f"{platform.python_version()}, nautilus {__version__}, {shown}")
    for line in requires("nautilus") or ():
        wanted = Requirement(line)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        found = _version(wanted.name)
        if found == MISSING or not wanted.specifier.contains(found, prereleases=True):
            said = f"{wanted.name} is {found}, {wanted.specifier} is needed"
            yield Finding("packages", "problem", said, f"pip install '{wanted.name}{wanted.specifier}'")


def _version(name: str) -> str:
    for known in (name, f"{name}-gpu"):  # onnxruntime has a twin that is built for CUDA
        with suppress(PackageNotFoundError):
            return version(known)
    return MISSING


def processor(_: Settings) -> Iterator[Finding]:
    """Look at cores, at what a container may use of them, and at the instructions that the models' kernels like."""
    yield _cores(cores(), quota(CGROUP))
    words = _cpu_words()
    if platform.machine() not in ("x86_64", "AMD64") or not words:
        yield ok("instructions", platform.machine())
    elif "avx2" not in words:
        yield Finding("instructions", "warning", "no AVX2", "Models run several times slower: use a newer processor.")
    elif words & {"avx512_vnni", "avx_vnni"}:
        yield ok("instructions", "AVX2 and VNNI: 8-bit weights are fast (`nautilus quantize`)")
    else:
        yield ok("instructions", "AVX2, no VNNI: 8-bit weights save memory, little time")


def _cores(count: int, allowed: float | None) -> Finding:
    if allowed is not None and allowed < count:
        whole = max(1, int(allowed))
        settings = f"NAUTILUS_BATCH__WORKERS={whole} and NAUTILUS_DECODE__WORKERS={whole}"
        advice = f"Threads would wait for each other: set {settings}."
        return Finding("cores", "warning", f"{count}, of which this container may use {allowed:g}", advice)
    if count == 1:
        return Finding("cores", "warning", "1", "The front and the model share it: give the server two.")
    return ok("cores", str(count))


def quota(cgroup: Path) -> float | None:
    """Return how many cores a container may use; None where it is not bounded."""
    with suppress(OSError, ValueError):
        most, period = (cgroup / "cpu.max").read_text().split()
        return int(most) / int(period)
    return None


def _cpu_words() -> set[str]:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return set(line.split())
    return set()


def memory(_: Settings) -> Iterator[Finding]:
    """Look at the memory that is left, of the machine and of the container."""
    free = memory_left(Path("/proc/meminfo"), CGROUP)
    if free is None:
        return
    if free < LITTLE_MEMORY:
        yield Finding("memory", "warning", f"{in_units(free)} free", "Give it a gigabyte, and twice a model's files.")
    else:
        yield ok("memory", f"{in_units(free)} free")


def memory_left(meminfo: Path, cgroup: Path) -> int | None:
    """Return bytes that may still be taken; None where nothing tells."""
    left: list[int] = []
    with suppress(OSError, ValueError, StopIteration):
        line = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:"))
        left.append(int(line.split()[1]) * 1024)
    with suppress(OSError, ValueError):  # "max" where it is not bounded
        left.append(int((cgroup / "memory.max").read_text()) - int((cgroup / "memory.current").read_text()))
    return min(left, default=None)


def gpu(_: Settings) -> Iterator[Finding]:
    """Look whether there is a GPU, and whether onnxruntime would use it."""
    import onnxruntime as rt

    usable = "CUDAExecutionProvider" in rt.get_available_providers()
    there = Path("/dev/nvidia0").exists()
    if usable and there:
        yield ok("GPU", "onnxruntime uses CUDA")
    elif there:
        advice = "pip uninstall onnxruntime, then pip install onnxruntime-gpu"
        yield Finding("GPU", "warning", "there is one, and onnxruntime was built without CUDA", advice)
    else:
        yield ok("GPU", "none; models run on the processor")


def folders(settings: Settings) -> Iterator[Finding]:
    """Look whether the folders can be written to, and how much room is left."""
    named = {
        "models folder": (settings.models_dir, "NAUTILUS_MODELS_DIR"),
        "cache folder": (settings.cache_dir, "NAUTILUS_CACHE_DIR"),
        "temporary folder": (Path(tempfile.gettempdir()), "TMPDIR"),
    }
    for subject, (folder, variable) in named.items():
        yield _folder(subject, folder.expanduser(), variable)


def _folder(subject: str, folder: Path, variable: str) -> Finding:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(subject, "problem", f"{folder} can't be written to", f"Set {variable} to a folder that can.")
    free = shutil.disk_usage(there).free
    said = f"{folder}, {in_units(free)} free"
    if free < LITTLE_SPACE:
        state: State = "problem" if free < NO_SPACE else "warning"
        return Finding(subject, state, said, f"Make room, or set {variable} to a folder on a larger disk.")
    return ok(subject, said)


def models(settings: Settings) -> Iterator[Finding]:
    """Look whether the models of the settings are here."""
    catalog = Catalog(settings.models_dir.expanduser())
    for name in dict.fromkeys(filter(None, (settings.model, settings.final_model, *settings.models))):
        try:
            model = catalog.find(name)
        except NautilusError as error:
            yield Finding("model", "problem", str(error), "`nautilus models list` shows what there is.")
            continue
        if model.path is not None:
            yield ok("model", f"{name} is here: {model.path}")
        elif settings.offline:
            advice = "Bring it with `nautilus models bundle` and `install`, or unset NAUTILUS_OFFLINE."
            yield Finding("model", "problem", f"{name} is not here, and NAUTILUS_OFFLINE forbids to fetch it", advice)
        else:
            yield Finding("model", "warning", f"{name} is not here", f"nautilus models pull {name}")


def port(settings: Settings) -> Iterator[Finding]:
    """Look whether the server could listen, or does already."""
    address = f"{settings.host}:{settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((settings.host, settings.port))
    except OSError as error:
        if _answers(settings):
            yield ok("port", f"{address}: a server is running")
        else:
            advice = "Choose others with NAUTILUS_HOST and NAUTILUS_PORT."
            yield Finding("port", "problem", f"{address}: {error.strerror}", advice)
    else:
        yield ok("port", f"{address} is free")


def _answers(settings: Settings) -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104 - where it listens
    try:
        answer = httpx.get(f"http://{host}:{settings.port}/health/live", timeout=2, trust_env=False)
        return bool(answer.json() == {"status": "alive"})
    except (httpx.HTTPError, ValueError):
        return False


def clock(_: Settings) -> Iterator[Finding]:
    """Look whether the time of day can be true, and whether time passes."""
    now, before = time.time(), time.monotonic()
    said = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < BUILT:
        advice = "Set the clock (NTP): certificates and client secrets would be refused."
        yield Finding("clock", "problem", said, advice)
    elif time.monotonic() < before:
        yield Finding("clock", "problem", "runs backwards", "Choose another clock source of the kernel.")
    else:
        yield ok("clock", said)


def open_files(_: Settings) -> Iterator[Finding]:
    """Look how many files and connections the server may have open."""
    most, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < FEW_FILES:
        advice = "ulimit -n 65536, or LimitNOFILE=65536 in the unit: each stream and upload takes one or two."
        yield Finding("open files", "warning", str(most), advice)
    else:
        yield ok("open files", "not bounded" if most == resource.RLIM_INFINITY else str(most))


def system(_: Settings) -> Iterator[Finding]:
    """Look whether decoders can be confined here."""
    if sys.platform == "linux":
        yield ok("system", f"Linux {platform.release()}")
    else:
        advice = "Decoders have no bound on memory here: serve strangers from Linux."
        yield Finding("system", "warning", platform.platform(), advice)
