"""Objects that open but do not load: one error of the right class, and nothing is left in the kernel."""

import random

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf import loader
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import Hook, ProgType
from netbpf.errors import ExitCode, KernelError, NetbpfError, ObjectError, VerifierError
from tests.support.compiling import compile_c, compile_object
from tests.support.descriptors import nothing_left_open
from tests.support.elf import EXIT, MOV, Part, btf, btf_type, insn, program
from tests.support.mutation import damaged, spliced

USE = 'SEC("xdp") int f(struct xdp_md *ctx) { int k = 0; return bpf_map_lookup_elem(&m, &k) != 0; }'


def define(fields: str) -> bytes:
    return compile_c(f'#include "check.h"\nstruct {{ {fields} }} m SEC(".maps");\n{USE}')


def load_first(data: bytes) -> loader.Loaded:
    spec = ObjectSpec(data, "bad.o")
    return loader.load(spec, spec.programs[0], Hook.XDP)


INTS = "__type(key, int); __type(value, int);"
HASH = "__uint(type, BPF_MAP_TYPE_HASH);"
BAD = {
    "no entries": (f"{HASH} {INTS}", "map m (hash) has max_entries 0"),
    "values of 2 GB": (
        f"{HASH} __uint(max_entries, 1); __type(key, int); __uint(value_size, 0x7fffffff);",
        "map m (hash) is too large for the kernel: keys of 4, values of 2147483647 bytes, 1 entries",
    ),
    "no key": (
        f"{HASH} __uint(max_entries, 1); __type(value, int);",
        "the kernel refuses map m (hash): keys of 0, values of 4 bytes, 1 entries",
    ),
    "map of no maps": (
        f"__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); __uint(max_entries, 1); {INTS}",
        "map m (array_of_maps) needs the definition of the maps in it",
    ),
    "unknown flags": (
        f"{HASH} __uint(max_entries, 1); __uint(map_flags, 0x40000000); {INTS}",
        "flags 0x40000000",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_maps_that_cannot_be(name: str) -> None:
    fields, words = BAD[name]
    data = define(fields)
    with nothing_left_open(), pytest.raises(ObjectError) as caught:
        load_first(data)
    assert words in caught.value.message
    assert caught.value.message.startswith("bad.o: ")
    assert caught.value.exit_code is ExitCode.BAD_OBJECT


def test_a_map_that_no_memory_can_hold() -> None:
    data = define(
        "__uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 0x7fffffff);"
        "__type(key, int); __type(value, char[4096]);"
    )
    with nothing_left_open(), pytest.raises(NetbpfError, match=r"no memory for map m \(array\)"):
        load_first(data)


def test_types_the_kernel_refuses_do_not_stop_a_program() -> None:
    """A typedef without a name: the kernel takes no such BTF, but what the program does needs none."""
    data = program(MOV + EXIT, Part(".BTF", btf(btf_type(0, 8, 0, 1))))
    with load_first(data) as loaded:
        assert loaded.program.info.btf_id == 0
        assert sys_bpf.prog_test_run(loaded.program.fd.fileno(), bytes(64)).retval == 2


def test_types_the_kernel_refuses_are_told_to_a_program_that_needs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys_bpf, "btf_load", lambda *_, **__: (None, 22, b"[1] bad type\n"))
    spec = ObjectSpec(compile_object("locks"))
    with nothing_left_open(), pytest.raises(VerifierError) as caught:
        loader.load(spec, spec.select(Hook.TC_INGRESS, "lock"), Hook.TC_INGRESS)
    assert "does not take the object's types: [1] bad type" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (insn(0xFF) + EXIT, "unknown opcode ff"),
        (MOV, "last insn is not an exit or jmp"),
        (insn(0x05, off=5) + EXIT, "jump out of range"),
        (MOV * 3 + insn(0x05, off=-4) + EXIT, "unreachable insn"),
    ],
)
def test_code_that_is_none(code: bytes, words: str) -> None:
    with nothing_left_open(), pytest.raises(VerifierError) as caught:
        load_first(program(code))
    assert words in caught.value.log


def test_frags_where_the_kernel_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux before 5.18 refuses the flag with EINVAL and says nothing."""
    monkeypatch.setattr(sys_bpf, "prog_load", lambda *_, **__: (None, 22, b""))
    with (
        nothing_left_open(),
        pytest.raises(NetbpfError, match=r"with xdp\.frags \(Linux 5\.18 does\)") as caught,
    ):
        load_first(compile_object("frags"))
    assert caught.value.exit_code is ExitCode.NOT_SUPPORTED


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (1, ExitCode.PERMISSION),
        (7, ExitCode.REJECTED),
        (11, ExitCode.OTHER),
        (12, ExitCode.OTHER),
        (22, ExitCode.REJECTED),
    ],
)
def test_refusals_without_a_word(
    number: int, code: ExitCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys_bpf, "prog_load", lambda *_, **__: (None, number, b""))
    with nothing_left_open(), pytest.raises(NetbpfError, match="main") as caught:
        load_first(program())
    assert caught.value.exit_code is code


@pytest.mark.parametrize(
    "command", ["MAP_CREATE", "MAP_UPDATE_ELEM", "MAP_FREEZE", "PROG_LOAD", "OBJ_GET_INFO_BY_FD"]
)
@pytest.mark.parametrize("number", [1, 12, 22])
def test_a_kernel_that_fails_at_any_step(
    command: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails, it is netbpf's error, and what was made before is gone."""
    true_call = sys_bpf._syscall

    def failing(called: int, attr: sys_bpf.Buffer) -> int:
        return -number if called == sys_bpf._NUMBER[command] else true_call(called, attr)

    data = compile_object("globals")
    spec = ObjectSpec(data)
    monkeypatch.setattr(sys_bpf, "_syscall", failing)
    with nothing_left_open(), pytest.raises(NetbpfError):
        loader.load(spec, spec.select(Hook.XDP, "constants"), Hook.XDP)


SEED = 7
NAMES = ("callbacks", "frags", "globals", "locks", "nested_maps", "subprograms", "tail_calls")


def load_damaged(data: bytes, chance: random.Random) -> NetbpfError | bool:
    """The error of loading a damaged object, True where it loads, False where it does not even open."""
    try:
        spec = ObjectSpec(data, "mutant.o")
    except ObjectError:
        return False
    if not spec.programs:
        return False
    chosen = chance.choice(spec.programs)
    hook = Hook.XDP if chosen.declared.type is ProgType.XDP else Hook.TC_INGRESS
    try:
        loader.load(spec, chosen, hook).close()
    except NetbpfError as error:
        return error
    return True


def test_damaged_objects_that_still_open() -> None:
    """Hundreds of them are loaded: they load, or fail with an error of netbpf's that has a reason."""
    chance = random.Random(SEED)
    objects = [compile_object(name) for name in NAMES]
    outcomes: list[NetbpfError | bool] = []
    with nothing_left_open():
        while len(outcomes) < 400:
            data = chance.choice(objects)
            mutant = damaged(data, chance) if chance.random() < 0.8 else spliced(data, data, chance)
            if outcome := load_damaged(mutant, chance):
                outcomes.append(outcome)
    errors = [one for one in outcomes if isinstance(one, NetbpfError)]
    assert len(errors) >= 10
    assert outcomes.count(True) > 100
    assert not [one for one in errors if isinstance(one, KernelError) or "\n" in one.message]
