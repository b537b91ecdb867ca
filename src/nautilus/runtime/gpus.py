"""The memory of NVIDIA's GPUs, as the driver tells it (NVML), whoever uses it: also models in other processes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """Of one GPU, in bytes."""

    name: str
    """Its number, and what it is: `0 NVIDIA H200`."""
    used: int
    total: int


class Memory(Protocol):
    """What NVML tells."""

    used: int
    total: int


class Driver(Protocol):
    """What is asked of `pynvml`."""

    @property
    def NVMLError(self) -> type[Exception]:  # noqa: N802 - NVML's name
        """What goes wrong there."""
        ...

    def nvmlInit(self) -> None:  # noqa: N802
        """Find the driver."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """Return how many GPUs there are."""
        ...

    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> Any:  # noqa: N802
        """Return what a GPU is asked by."""
        ...

    def nvmlDeviceGetName(self, handle: Any, /) -> str:  # noqa: N802
        """Return what it is."""
        ...

    def nvmlDeviceGetMemoryInfo(self, handle: Any, /) -> Memory:  # noqa: N802
        """Return its memory."""
        ...


def _pynvml() -> Driver:
    import pynvml  # late: where there is no GPU, it is never asked for

    driver: Driver = pynvml
    return driver


class Gpus:
    """Asks the driver, which is found at the first question; where there is none, there are no GPUs."""

    def __init__(self, find: Callable[[], Driver] = _pynvml) -> None:
        self._find = find
        self._driver: Driver | None = None
        self._asked = False

    def memory(self) -> Sequence[GpuMemory]:
        """Return the memory of each; none where the driver does not answer."""
        if not self._asked:
            self._asked = True
            self._driver = self._found()
        driver = self._driver
        if driver is None:
            return ()
        try:
            return [_memory(driver, index) for index in range(driver.nvmlDeviceGetCount())]
        except driver.NVMLError as error:
            log.warning("the driver of the GPUs does not answer", reason=str(error))
            return ()

    def _found(self) -> Driver | None:
        driver = self._find()
        try:
            driver.nvmlInit()
        except driver.NVMLError as error:
            log.info("no driver of GPUs", reason=str(error))
            return None
        return driver


def _memory(driver: Driver, index: int) -> GpuMemory:
    handle = driver.nvmlDeviceGetHandleByIndex(index)
    memory = driver.nvmlDeviceGetMemoryInfo(handle)
    return GpuMemory(f"{index} {driver.nvmlDeviceGetName(handle)}", memory.used, memory.total)
