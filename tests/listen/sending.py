"""A program whose output each test decides on, run on packets without a network."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netbpf._sys.bpf import prog_test_run
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec
from tests.support.compiling import compile_c

SOURCE = Path(__file__).parent / "outputs.bpf.c"


class Outputs:
    """The loaded program of ``outputs.bpf.c``."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded

    def map(self, name: str) -> Map:
        return self.loaded.maps[name]

    @property
    def lost(self) -> int:
        """What the program itself counted as lost."""
        return int.from_bytes(self.map(".bss").lookup(bytes(4)) or b"", "little")

    def _run(self, way: str, data: bytes, times: int = 1) -> None:
        packet = bytes(14) + way.encode() + b"\0" + struct.pack("<H", len(data)) + data
        # The kernel takes 10 ms for the second of several runs, so a few are run one by one.
        few = times if times < 10 else 1
        for _ in range(few):
            prog_test_run(self.loaded.program.fd.fileno(), packet, repeat=times // few)

    def ring(self, data: bytes, *, times: int = 1, quiet: bool = False) -> None:
        self._run("q" if quiet else "r", data, times)

    def discard(self) -> None:
        """Reserve 24 bytes in the ring buffer, and give them back."""
        self._run("d", b"-")

    def perf(self, data: bytes, *, times: int = 1) -> None:
        self._run("p", data, times)


@contextmanager
def outputs() -> Iterator[Outputs]:
    spec = ObjectSpec(compile_c(SOURCE.read_text(), name="outputs"))
    with load(spec, spec.programs[0], None) as loaded:
        yield Outputs(loaded)
