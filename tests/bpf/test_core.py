"""CO-RE relocations against libbpf: every instruction the same, for types that differ from the kernel's."""

import subprocess
from pathlib import Path

import pytest

from netbpf.bpf.core import CoreKind, blame, needs, relocate_image
from netbpf.bpf.linker import link
from netbpf.bpf.loader import load
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import Hook
from netbpf.errors import ObjectError
from tests.bpf.core import oracle

CLANGS = ("clang-14", "clang-19")


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with vmlinux.h of the running kernel."""
    directory = tmp_path_factory.mktemp("vmlinux")
    command = "bpftool btf dump file /sys/kernel/btf/vmlinux format c".split()
    with open(directory / "vmlinux.h", "wb") as header:
        subprocess.run(command, stdout=header, check=True)
    return directory


def source(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("cpu", ["v2", "v3"])
@pytest.mark.parametrize("clang", CLANGS)
@pytest.mark.parametrize("name", ["fields", "types", "context", "kernel"])
def test_the_same_instructions_as_libbpf(
    name: str, clang: str, cpu: str, vmlinux: Path, tmp_path: Path
) -> None:
    file = oracle.HERE / f"{name}.bpf.c"
    path = oracle.compile_object(file, tmp_path / "x.o", clang, vmlinux, cpu=cpu)
    theirs = oracle.libbpf(path)
    assert not theirs.failed, theirs.log
    assert sum(map(len, theirs.edits.values())) > 5
    for program, ours in oracle.netbpf(path, theirs).items():
        assert ours.resolutions or program == "matches", program
        assert ours.insns == ours.expected, program


@pytest.mark.parametrize("clang", CLANGS)
@pytest.mark.parametrize("name", ["context", "kernel"])
def test_the_same_tags_as_libbpf(name: str, clang: str, vmlinux: Path, tmp_path: Path) -> None:
    file = oracle.HERE / f"{name}.bpf.c"
    path = oracle.compile_object(file, tmp_path / "x.o", clang, vmlinux)
    theirs = oracle.libbpf(path)
    spec = ObjectSpec.open(path)
    tags = {}
    for program in spec.programs:
        hook = Hook.XDP if program.section == "xdp" else Hook.TC_INGRESS
        with load(spec, program, hook) as loaded:
            tags[program.name] = loaded.program.info.tag
    assert len(tags) == 2
    assert tags == theirs.tags, theirs.log


AMBIGUOUS = """
#include "lookup.h"
struct dma_chan { int cookie; int nothing; } KERNEL;
struct perf_aux_event { int header; int pid; } KERNEL;
SEC("socket") int prog(void *ctx) { struct dma_chan *chan = ctx; %s return 0; }
"""
# The kernel has two structs dma_chan, of 16 and of 112 bytes; only one of them has a cookie.
ONE_SIZE = "sink = bpf_core_type_size(struct dma_chan);"
ONE_FIELD = "FIELD(BYTE_OFFSET, chan->cookie);"


@pytest.mark.parametrize(
    ("code", "fits"),
    [
        (ONE_FIELD, True),
        (ONE_SIZE, False),
        ("sink = bpf_core_type_exists(struct dma_chan);", True),
        ("sink = bpf_core_type_id_kernel(struct dma_chan);", False),
        (ONE_FIELD + ONE_SIZE, True),  # the field has told which one is meant
        ("sink = bpf_core_field_exists(chan->nothing);" + ONE_SIZE, False),
    ],
)
def test_ambiguous_types(code: str, fits: bool, tmp_path: Path) -> None:
    file = source(tmp_path / "x.bpf.c", AMBIGUOUS % code)
    path = oracle.compile_object(file, tmp_path / "x.o", "clang-14")
    theirs = oracle.libbpf(path)
    assert theirs.failed is not fits, theirs.log
    if fits:
        ours = oracle.netbpf(path, theirs)["prog"]
        assert ours.insns == ours.expected
    else:
        with pytest.raises(ObjectError, match=r"x\.o: CO-RE .* is ambiguous: the kernel's types \d+ and"):
            oracle.netbpf(path, theirs)
