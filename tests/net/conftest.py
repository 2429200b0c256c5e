"""Namespaces, veth pairs and tiny programs for the tests of netbpf.net, made without netbpf's own loader."""

import struct
import subprocess
from collections.abc import Callable, Iterator

import pytest

from netbpf._sys import bpf
from netbpf._sys.fd import Fd
from netbpf._sys.info import program_info
from netbpf.constants import ProgType
from netbpf.model import Interface
from netbpf.net.interfaces import resolve
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session

Ip = Callable[[str], str]
Load = Callable[..., Fd]


@pytest.fixture
def space() -> Iterator[Namespace]:
    """A namespace of the test's own."""
    with Namespace.create() as namespace:
        yield namespace


@pytest.fixture
def other_space() -> Iterator[Namespace]:
    with Namespace.create() as namespace:
        yield namespace


@pytest.fixture
def session(space: Namespace) -> Iterator[Session]:
    with Session(space) as session:
        yield session


@pytest.fixture
def run(space: Namespace) -> Ip:
    """Run a command line in the namespace; its output. It has to succeed."""

    def command(line: str) -> str:
        done = space.run(subprocess.run, line.split(), text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    return command


@pytest.fixture
def veth(session: Session, run: Ip) -> Interface:
    """The near end of a veth pair v0, v1."""
    run("ip link add v0 type veth peer name v1")
    return resolve(session, "v0")


@pytest.fixture
def load() -> Iterator[Load]:
    """Load ``r0 = verdict; exit`` as a program of a type."""
    loaded: list[Fd] = []

    def load(
        prog_type: ProgType = ProgType.XDP, *, name: str = "", verdict: int = 2, flags: int = 0
    ) -> Fd:
        insns = struct.pack("=BBhiBBhi", 0xB7, 0, 0, verdict, 0x95, 0, 0, 0)
        fd, error, log = bpf.prog_load(bpf.ProgLoad(prog_type, insns, "GPL", name, flags=flags))
        assert fd is not None, (error, log)
        loaded.append(fd)
        return fd

    yield load
    for fd in loaded:
        fd.close()


@pytest.fixture
def prog_id() -> Callable[[Fd], int]:
    return lambda fd: program_info(fd.fileno()).id
