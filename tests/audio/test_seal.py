"""Decoders can open nothing: neither files nor connections, whatever code runs in them."""

import io
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from nautilus.audio.sandbox import DecodeLimits, open_sandbox
from nautilus.audio.seal import MACHINES, program
from tests.audio.media import RECORDERS, record, voice, wav

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in MACHINES, reason="there are no filters for this machine"
)

TRIES = """
import json, os, signal, socket, sys, threading
from pathlib import Path
from nautilus.audio.seal import seal

mine = open(__file__ if len(sys.argv) < 2 else sys.argv[1], "rb")
pair = socket.socketpair()
def go(do):
    try:
        do()
    except (OSError, RuntimeError) as error:
        return type(error).__name__
    return "done"

tries = {
    "read what is open": lambda: mine.read(),
    "speak on what is open": lambda: (pair[0].sendall(b"x"), pair[1].recv(1)),
    "memory": lambda: bytearray(64 * 1024**2),
    "open a file": lambda: open("/etc/hostname"),
    "open by another call": lambda: os.open("/", os.O_RDONLY | os.O_DIRECTORY),
    "list a folder": lambda: os.listdir("/"),
    "make a file": lambda: os.mkdir("/tmp/sealed"),
    "delete a file": lambda: os.unlink("/tmp/sealed"),
    "a connection": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "a pair": lambda: socket.socketpair(),
    "a file in memory": lambda: os.memfd_create("x"),
    "a process": lambda: os.fork(),
    "a program": lambda: os.execv("/bin/true", ["true"]),
    "a thread": lambda: threading.Thread(target=int).start(),
    "a signal": lambda: os.kill(os.getppid(), 0),
    "a limit of another": lambda: __import__("resource").prlimit(os.getppid(), 7),
    "a pipe": lambda: os.pipe(),
}
assert seal()
sys.stdout.write(json.dumps({name: go(do) for name, do in tries.items()}))
sys.stdout.flush()
os._exit(0)
"""
ALLOWED = {"read what is open", "speak on what is open", "memory"}


def test_a_sealed_process_reads_and_speaks_and_nothing_else() -> None:
    answer = subprocess.run([sys.executable, "-c", TRIES, __file__], capture_output=True, text=True, check=False)
    outcomes = json.loads(answer.stdout)
    assert {name for name, outcome in outcomes.items() if outcome == "done"} == ALLOWED, answer.stderr
    assert len(outcomes) == 17


def state(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def most_memory(pid: int) -> int:
    lines = Path(f"/proc/{pid}/limits").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[3] for line in lines if line.startswith("Max address space")))


async def test_every_decoder_is_sealed_before_it_sees_a_recording() -> None:
    async with open_sandbox(DecodeLimits(workers=1, block_seconds=0.5)) as sandbox:
        async with sandbox.open(io.BytesIO(wav(voice(2.0)))):
            (child,) = sandbox._nursery.children.values()
            assert (state(child.pid)["Seccomp"], state(child.pid)["NoNewPrivs"]) == ("2", "1")
        assert sandbox.sealed


async def test_live_decoders_are_sealed_too_and_have_less_memory() -> None:
    async with open_sandbox(DecodeLimits(workers=1)) as sandbox, sandbox.listen("webm") as recording:
        assert [len(block) async for block in recording.read(record(voice(2.0), RECORDERS["webm"]))]
        (child,) = [child for child in sandbox._nursery.children.values() if child.pid]
        assert state(child.pid)["Seccomp"] == "2"
        assert most_memory(child.pid) < 1024**3


def test_the_filter_is_as_the_kernel_has_it() -> None:
    """One instruction has eight bytes; every jump of a list of two leads to the last one, which allows."""
    code = program(0xC000003E, [0, 1])
    assert len(code) == 8 * 8
    steps = [code[place : place + 8] for place in range(0, len(code), 8)]
    assert [step[2] for step in steps[4:6]] == [2, 1]
    assert steps[-1] == bytes.fromhex("06000000 0000ff7f".replace(" ", ""))
