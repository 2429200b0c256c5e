"""CO-RE relocations against libbpf: every instruction the same, for types that differ from the kernel's."""

import random
import re
import struct
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from netbpf.bpf.btf.build import Builder
from netbpf.bpf.btf.types import Btf
from netbpf.bpf.core import CoreKind, Target, relocate, relocate_image
from netbpf.bpf.elf import Elf
from netbpf.bpf.linker import link
from netbpf.bpf.loader import load
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import Hook
from netbpf.errors import NotSupportedError, ObjectError
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
        with pytest.raises(
            ObjectError, match=r"x\.o: CO-RE .* is ambiguous: the kernel's types \d+ and"
        ):
            oracle.netbpf(path, theirs)


GONE = """
#include "lookup.h"
struct xdp_md { __u32 data; __u32 gone; } KERNEL;
enum nothing { NONE };
SEC("xdp") int field(struct xdp_md *ctx) { if (ctx->data) sink = ctx->gone; return 2; }
SEC("xdp") int value(struct xdp_md *ctx) { sink = bpf_core_enum_value(enum nothing, NONE); return 2; }
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "field",
            "needs struct xdp_md.gone (0:1), but the kernel's struct xdp_md has no field of that name",
        ),
        ("value", "needs enum nothing::NONE, but the kernel has no enum nothing"),
    ],
)
def test_a_rejected_program_is_explained(name: str, text: str, tmp_path: Path) -> None:
    file = source(tmp_path / "x.bpf.c", GONE)
    spec = ObjectSpec.open(oracle.compile_object(file, tmp_path / "x.o", "clang-19"))
    with pytest.raises(NotSupportedError, match=re.escape(text)):
        load(spec, spec.select(Hook.XDP, name), Hook.XDP)


def test_a_kernel_from_a_file(tmp_path: Path) -> None:
    """The object's own types as the kernel: then nothing changes; without them everything is missing."""
    file = oracle.HERE / "context.bpf.c"
    path = oracle.compile_object(file, tmp_path / "x.o", "clang-19")
    spec = ObjectSpec.open(path)
    program = spec.select(Hook.XDP)
    image = link(spec, program.function)
    before = bytes(image.insns)
    same = relocate_image(image, spec, program.name, path)
    assert image.insns == before
    assert len(same) > 4
    assert all(one.old == one.new for one in same)
    (tmp_path / "none.btf").write_bytes(Builder().to_bytes())
    none = relocate_image(image, spec, program.name, tmp_path / "none.btf")
    kinds = {CoreKind.FIELD_EXISTS: 0, CoreKind.TYPE_SIZE: 0}
    assert all(one.new == kinds.get(one.kind) for one in none)


def test_mutated_objects_raise_object_errors_only(tmp_path: Path) -> None:
    """Types, .BTF.ext and code of two objects, bent at random; against themselves, so that both sides are bent."""
    rng = random.Random(20)
    outcomes: Counter[str] = Counter()
    for name in ("fields", "types"):
        path = oracle.compile_object(oracle.HERE / f"{name}.bpf.c", tmp_path / "x.o", "clang-19")
        good = path.read_bytes()
        elf = Elf(good)
        sections = [elf.section(one) for one in (".BTF", ".BTF", ".BTF.ext", ".BTF.ext", "socket")]
        for _ in range(400):
            data = bytearray(good)
            for _ in range(rng.choice([1, 1, 2, 8])):
                section = rng.choice(sections)
                assert section is not None
                _bend(rng, data, section.offset, section.size)
            outcomes[_relocated(bytes(data))] += 1
    assert outcomes["fine"] > 50
    assert outcomes["bad object"] > 50
    assert outcomes["bad relocation"] > 50


def _bend(rng: random.Random, data: bytearray, start: int, size: int) -> None:
    at = start + rng.randrange(size // 4) * 4
    word = struct.unpack_from("<I", data, at)[0]
    new = rng.choice(
        [0, 1, word + 1, word - 1, word ^ 1 << rng.randrange(32), rng.randrange(200), 0xFFFFFFFF]
    )
    struct.pack_into("<I", data, at, new & 0xFFFFFFFF)


def _relocated(data: bytes) -> str:
    try:
        spec = ObjectSpec(data)
    except ObjectError:
        return "bad object"
    for program in spec.programs:
        try:
            image = link(spec, program.function)
            if spec.btf:
                relocate(
                    image.insns, image.relocations, spec.btf, Target(partial(Btf, spec.btf.data))
                )
        except ObjectError:
            return "bad relocation"
    return "fine"
