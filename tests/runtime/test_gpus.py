"""GPUs, as a small stand-in for NVIDIA's library tells of them: there may be none on the machine of the tests."""

from dataclasses import dataclass

from nautilus.runtime.gpus import GpuMemory, Gpus


@dataclass
class Memory:
    total: int
    used: int


class LostError(Exception):
    pass


class Driver:
    """Has NVML's names and answers."""

    NVMLError = LostError

    def __init__(self, *, is_there: bool = True) -> None:
        self._is_there = is_there
        self.found = 0
        self.answers = True

    def nvmlInit(self) -> None:  # noqa: N802
        self.found += 1
        if not self._is_there:
            raise LostError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if not self.answers:
            raise LostError("GPU is lost")
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle: int, /) -> str:  # noqa: N802
        return ("NVIDIA H200", "NVIDIA L4")[handle]

    def nvmlDeviceGetMemoryInfo(self, handle: int, /) -> Memory:  # noqa: N802
        return Memory(total=100 + handle, used=10 + handle)


def test_the_memory_of_each_gpu_is_told() -> None:
    driver = Driver()
    gpus = Gpus(lambda: driver)
    for _ in range(2):
        assert gpus.memory() == [GpuMemory("0 NVIDIA H200", 10, 100), GpuMemory("1 NVIDIA L4", 11, 101)]
    assert driver.found == 1


def test_where_there_is_no_driver_there_are_no_gpus_and_it_is_not_looked_for_again() -> None:
    driver = Driver(is_there=False)
    gpus = Gpus(lambda: driver)
    assert [*gpus.memory(), *gpus.memory()] == []
    assert driver.found == 1


def test_a_gpu_that_is_lost_ends_nothing() -> None:
    driver = Driver()
    gpus = Gpus(lambda: driver)
    gpus.memory()
    driver.answers = False
    assert gpus.memory() == ()
    driver.answers = True
    assert len(gpus.memory()) == 2


def test_the_real_library_is_asked_by_these_names() -> None:
    assert all(gpu.used <= gpu.total for gpu in Gpus().memory())
