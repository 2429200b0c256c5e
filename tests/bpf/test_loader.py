"""Loading one program of many, what it takes along, and what the verifier says of it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import Hook, ProgType
from netbpf.errors import NetbpfError, NotSupportedError, ObjectError, VerifierError
from tests.support.compiling import CLANGS, compile_c, compile_object
from tests.support.descriptors import nothing_left_open

GOOD = 7  # tests/support/objects/check.h


def spec_of(name: str) -> ObjectSpec:
    return ObjectSpec(compile_object(name), f"{name}.bpf.o")


def load_named(spec: ObjectSpec, name: str, hook: Hook = Hook.XDP) -> Loaded:
    return load(spec, spec.select(hook, name), hook)


def verdict(loaded: Loaded) -> int:
    return sys_bpf.prog_test_run(loaded.program.fd.fileno(), bytes(64)).retval


# --- siblings ---


def test_siblings_that_cannot_load_do_not_matter() -> None:
    spec = spec_of("choice")
    with load(spec, spec.select(Hook.TC_INGRESS), Hook.TC_INGRESS) as loaded:
        assert loaded.program.info.name == "chosen"
        assert verdict(loaded) == GOOD
        assert not loaded.maps


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("rejected", VerifierError, "without comparing with data_end"),
        ("needs_helper", VerifierError, "helper 4000, which this kernel does not know"),
        ("needs_function", NotSupportedError, "no function bpf_netbpf_is_not_there"),
        ("needs_config", NotSupportedError, "CONFIG_NETBPF_IS_NOT_THERE"),
        ("needs_map", NotSupportedError, "map future is of type 250"),
        ("calls_nothing", ObjectError, "undefined_function, which is neither in the object"),
    ],
)
def test_each_of_those_siblings_says_why(name: str, kind: type[NetbpfError], words: str) -> None:
    spec = spec_of("choice")
    with nothing_left_open(), pytest.raises(kind, match=re.escape(words)) as caught:
        load_named(spec, name)
    assert type(caught.value) is kind
    assert "\n" not in caught.value.message


def test_a_weak_function_that_is_called_without_asking_is_named() -> None:
    source = """#include "check.h"
extern int bpf_netbpf_lacks(void *) __ksym __weak;
SEC("xdp") int main_program(struct xdp_md *ctx) { return bpf_netbpf_lacks(ctx); }
"""
    spec = ObjectSpec(compile_c(source), "weak.o")
    with pytest.raises(NotSupportedError, match="it calls bpf_netbpf_lacks, which the kernel"):
        load_named(spec, "main_program")


def test_a_field_the_kernel_lacks_is_named() -> None:
    source = """#include "check.h"
struct task_struct { int netbpf_lacks; } __attribute__((preserve_access_index));
SEC("tc") int main_program(struct __sk_buff *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	return task->netbpf_lacks;
}
"""
    spec = ObjectSpec(compile_c(source), "core.o")
    with pytest.raises(NotSupportedError, match=r"it needs struct task_struct\.netbpf_lacks"):
        load_named(spec, "main_program", Hook.TC_INGRESS)


# --- what comes along ---


def test_only_the_maps_that_are_used() -> None:
    spec = spec_of("maps")
    with load_named(spec, "prefixes", Hook.TC_INGRESS) as loaded:
        assert list(loaded.maps) == ["trie"]
        assert loaded.program.info.map_ids == (loaded.maps["trie"].info.id,)


def test_tail_calls_bring_their_programs_and_the_maps_of_those() -> None:
    with nothing_left_open(), load_named(spec_of("tail_calls"), "entry") as loaded:
        assert set(loaded.siblings) == {"next", "last"}
        assert set(loaded.maps) == {".bss", "jumps", "more_jumps"}
        assert verdict(loaded) == GOOD


def test_a_program_may_jump_to_itself() -> None:
    source = """#include "check.h"
int again(struct xdp_md *ctx);
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__array(values, int(void *));
} self SEC(".maps") = { .values = { (void *)&again } };
int rounds;
SEC("xdp") int again(struct xdp_md *ctx)
{
	if (++rounds < 3)
		bpf_tail_call(ctx, &self, 0);
	return rounds == 3 ? GOOD : BAD;
}
"""
    with load_named(ObjectSpec(compile_c(source)), "again") as loaded:
        assert not loaded.siblings
        assert verdict(loaded) == GOOD


def test_a_prog_array_of_two_kinds_is_refused() -> None:
    source = """#include "check.h"
int target(struct xdp_md *ctx);
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, 4);
	__array(values, int(void *));
} jumps SEC(".maps") = { .values = { (void *)&target } };
SEC("xdp.frags") int target(struct xdp_md *ctx) { return GOOD; }
SEC("xdp") int entry(struct xdp_md *ctx) { bpf_tail_call(ctx, &jumps, 0); return BAD; }
"""
    spec = ObjectSpec(compile_c(source), "mixed.o")
    with (
        nothing_left_open(),
        pytest.raises(
            ObjectError, match=r"map jumps of mixed\.o does not take target at index 0"
        ) as caught,
    ):
        load_named(spec, "entry")
    assert caught.value.hint is not None
    assert "xdp.frags" in caught.value.hint


def test_maps_in_use_can_be_used_again() -> None:
    spec = spec_of("globals")
    with load_named(spec, "data") as first:
        assert verdict(first) == GOOD
        with load(spec, first.program_spec, Hook.XDP, reuse={".bss": first.maps[".bss"]}) as second:
            assert second.maps[".bss"].info.id == first.maps[".bss"].info.id
            assert second.maps[".data"].info.id != first.maps[".data"].info.id
            assert verdict(second) == GOOD
        assert first.maps[".bss"].lookup(bytes(4)) is not None


def test_extra_maps_stay_with_the_program() -> None:
    spec = spec_of("maps")
    program = spec.select(Hook.TC_INGRESS, "prefixes")
    with load(spec, program, Hook.TC_INGRESS, extra_maps=("hash",)) as loaded:
        loaded.program.refresh()
        assert loaded.maps["hash"].info.id in loaded.program.info.map_ids


def test_read_only_data_is_frozen_and_holds_its_values() -> None:
    with load_named(spec_of("globals"), "constants") as loaded:
        rodata = loaded.maps[".rodata"]
        assert rodata.frozen
        assert (44).to_bytes(4, "little") in (rodata.lookup(bytes(4)) or b"")
        with pytest.raises(NotSupportedError, match="frozen"):
            rodata.update(bytes(4), bytes(rodata.info.value_size))


def test_the_name_says_which_object_and_variables_survive_changes_before_loading() -> None:
    spec = spec_of("globals")
    data = spec.maps[".data"].initial
    assert data is not None
    at = bytes(data).index((42).to_bytes(4, "little"))
    data[at : at + 4] = (41).to_bytes(4, "little")
    with load_named(spec, "data") as loaded:
        assert verdict(loaded) != GOOD
        assert loaded.maps[".data"].info.name == "globals.data"


def test_an_object_loads_for_a_hook_its_section_does_not_name() -> None:
    source = '#include "check.h"\nSEC("what_is_this") int f(void *ctx) { return GOOD; }'
    spec = ObjectSpec(compile_c(source))
    for hook, kind in ((Hook.XDP, ProgType.XDP), (Hook.TC_EGRESS, ProgType.SCHED_CLS)):
        with load(spec, spec.select(hook), hook) as loaded:
            assert loaded.program.info.type == kind
            assert verdict(loaded) == GOOD


def test_many_loads_leave_nothing_open() -> None:
    spec = spec_of("globals")
    with nothing_left_open():
        for _ in range(20):
            load_named(spec, "data").close()
            with contextlib.suppress(VerifierError):
                load_named(spec_of("rejected"), "packet").close()


# --- the verifier ---

REJECTIONS = [
    ("no_verdict", "without having set its return value", "return a verdict"),
    ("packet", "without comparing with data_end", "data_end"),
    ("null_pointer", "may be NULL", "NULL"),
    ("stack", "bytes of stack together", "512 bytes"),
    ("forever", "the loop never ends", "bpf_loop"),
    ("other_helper", "cannot call bpf_skb_vlan_pop", "bpf-helpers(7)"),
]


@pytest.mark.parametrize("clang", sorted({CLANGS[0], CLANGS[-1]}))
@pytest.mark.parametrize(("name", "words", "advice"), REJECTIONS)
def test_a_rejection_in_one_line(name: str, words: str, advice: str, clang: str) -> None:
    spec = ObjectSpec(compile_object("rejected", clang=clang), "rejected.bpf.o")
    with nothing_left_open(), pytest.raises(VerifierError) as caught:
        load_named(spec, name)
    error = caught.value
    assert error.message.startswith(f"the verifier rejects program {name} of rejected.bpf.o: ")
    assert words in error.message
    assert "\n" not in error.message
    assert advice in (error.hint or "")
    assert (
        error.log.startswith(("0: ", "func#0", "processed", "combined")) or "0: R1=ctx" in error.log
    )


def test_a_rejection_shows_the_line_of_source() -> None:
    with pytest.raises(VerifierError) as caught:
        load_named(spec_of("rejected"), "packet")
    source = (Path(__file__).parents[1] / "support/objects/rejected.bpf.c").read_text().splitlines()
    line = next(n for n, text in enumerate(source, 1) if "(long)ctx->data" in text)
    where = f"(rejected.bpf.c:{line})"
    assert where in caught.value.message


def test_a_gpl_helper_without_a_licence() -> None:
    source = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("xdp") int f(struct xdp_md *ctx) { char text[] = "x"; return bpf_trace_printk(text, 2); }
"""
    spec = ObjectSpec(compile_c(source))
    with pytest.raises(VerifierError, match="GPL") as caught:
        load_named(spec, "f")
    assert "licence" in (caught.value.hint or "")


def test_a_log_of_more_than_16_mib_is_kept_whole() -> None:
    with (
        nothing_left_open(),
        pytest.raises(VerifierError, match="after following 1,000,000 instructions") as caught,
    ):
        load_named(spec_of("endless"), "endless")
    log = caught.value.log
    assert len(log) > 1 << 24
    assert log.startswith("0: R1=ctx")
    assert log.rstrip().splitlines()[-1].startswith("processed 1000001 insns")


_CHILD = """
import sys
from netbpf.bpf.loader import load
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import Hook
from netbpf.errors import VerifierError
spec = ObjectSpec.open(sys.argv[1])
program = spec.select(Hook.XDP)
print("loading", flush=True)
try:
    while True:
        try:
            load(spec, program, Hook.XDP)
        except VerifierError:
            continue  # once more, until the signal comes
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def _kernel_time(pid: int) -> float:
    """Seconds that a process has spent in the kernel: hardly any but in the verifier."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_a_timer_does_not_keep_a_long_verification_from_its_end() -> None:
    """Each of its signals makes the verifier begin again, if it gets through."""
    ticks: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: ticks.append(number))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        with pytest.raises(VerifierError, match="after following 1,000,000 instructions"):
            load_named(spec_of("endless"), "endless")
        assert ticks
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert signal.SIGALRM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_ctrl_c_ends_a_long_verification(tmp_path: Path) -> None:
    path = tmp_path / "endless.bpf.o"
    path.write_bytes(compile_object("endless"))
    command = [sys.executable, "-c", _CHILD, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "loading\n"
            busy = _kernel_time(child.pid) + 0.3
            while _kernel_time(child.pid) < busy:
                assert child.poll() is None
            child.send_signal(signal.SIGINT)
            assert child.stdout.readline() == "interrupted\n"
            # A rejection takes three verifications, some 5 s, and the child would go on for ever.
            assert _kernel_time(child.pid) - busy < 2
            assert child.wait() == 0
        finally:
            child.kill()
