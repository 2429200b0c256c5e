"""What section names mean, against libbpf: the same program types, and a kernel that takes the attach types."""

from pathlib import Path

import pytest

from netbpf.bpf.loader import load
from netbpf.bpf.object import ObjectSpec
from netbpf.bpf.targets import Way, target
from netbpf.constants import AttachType, ProgType
from netbpf.errors import NotSupportedError, ObjectError, VerifierError
from tests.support import bpftool
from tests.support.compiling import compile_c

SECTIONS = """
socket sk_reuseport sk_reuseport/migrate kprobe/tcp_connect kretprobe/tcp_connect uprobe uretprobe ksyscall/openat
usdt tp/sched/sched_switch tracepoint/sched/sched_switch raw_tp/sched_switch raw_tracepoint/sched_switch raw_tp
tp_btf/sched_switch iter/task syscall perf_event lwt_in lwt_out lwt_xmit lwt_seg6local sockops sk_skb/stream_parser
sk_skb/stream_verdict sk_skb sk_msg flow_dissector sk_lookup cgroup_skb/ingress cgroup_skb/egress cgroup/skb
cgroup/sock_create cgroup/sock_release cgroup/sock cgroup/post_bind4 cgroup/post_bind6 cgroup/bind4 cgroup/bind6
cgroup/connect4 cgroup/connect6 cgroup/sendmsg4 cgroup/sendmsg6 cgroup/recvmsg4 cgroup/recvmsg6 cgroup/getpeername4
cgroup/getpeername6 cgroup/getsockname4 cgroup/getsockname6 cgroup/sysctl cgroup/getsockopt cgroup/setsockopt cgroup/dev
""".split()
# These have to say 1: 0 is not among what the verifier lets them return.
_ONE = ("recvmsg", "getpeername", "getsockname")


def source(sections: list[str]) -> str:
    lines = ["#include <linux/bpf.h>", "#include <bpf/bpf_helpers.h>"]
    for number, section in enumerate(sections):
        verdict = int(any(word in section for word in _ONE))
        lines.append(f'SEC("{section}") int f{number}(void *ctx) {{ return {verdict}; }}')
    return "\n".join([*lines, 'char _license[] SEC("license") = "GPL";', ""])


def test_types_are_those_of_libbpf(tmp_path: Path) -> None:
    path = tmp_path / "every.o"
    path.write_bytes(compile_c(source(SECTIONS)))
    theirs = bpftool.loadall(path, tmp_path)
    assert not theirs.refused, theirs.log
    spec = ObjectSpec.open(path)
    for program in spec.programs:
        with load(spec, program, None) as ours:
            kind = ProgType(ours.program.info.type).name.lower()
            assert theirs.programs[program.name]["type"] == kind, program.section
            assert theirs.programs[program.name]["tag"] == ours.program.info.tag


def test_attach_types_are_what_the_kernel_compares(tmp_path: Path) -> None:
    """cgroup/connect4 and connect6 are one program type: the verifier would refuse a wrong attach type."""
    code = """#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("cgroup/%s") int f(struct bpf_sock_addr *ctx) { return ctx->%s & 1; }
char _license[] SEC("license") = "GPL";
"""
    for section, field in (("connect4", "user_ip4"), ("connect6", "user_ip6[3]")):
        spec = ObjectSpec(compile_c(code % (section, field)))
        load(spec, spec.programs[0], None).close()
    spec = ObjectSpec(compile_c(code % ("connect4", "user_ip6[3]")))
    with pytest.raises(VerifierError) as caught:
        load(spec, spec.programs[0], None)
    assert "context" in str(caught.value)


@pytest.mark.parametrize(
    ("section", "way", "attach_type"),
    [
        ("kprobe.multi/tcp_*", Way.KPROBE_MULTI, AttachType.TRACE_KPROBE_MULTI),
        ("fentry.s/tcp_connect", Way.TYPED, AttachType.TRACE_FENTRY),
        ("fexit/tcp_connect", Way.TYPED, AttachType.TRACE_FEXIT),
        ("fmod_ret/tcp_connect", Way.TYPED, AttachType.MODIFY_RETURN),
        ("lsm.s/file_open", Way.TYPED, AttachType.LSM_MAC),
        ("lsm_cgroup/socket_bind", Way.CGROUP, AttachType.LSM_CGROUP),
        ("cgroup/connect_unix", Way.CGROUP, AttachType.CGROUP_UNIX_CONNECT),
        ("flow_dissector/mine", Way.NETNS, AttachType.FLOW_DISSECTOR),
        ("socket3", Way.HELD, AttachType.NONE),
        ("socket_filter/mine", Way.HELD, AttachType.NONE),
        ("?tp/a/b", Way.TRACEPOINT, AttachType.PERF_EVENT),
    ],
)
def test_what_is_not_tried_here(section: str, way: Way, attach_type: AttachType) -> None:
    found = target(section)
    assert found is not None
    assert (found.way, found.attach_type, found.missing) == (way, attach_type, "")


@pytest.mark.parametrize(
    "section", ["xdp", "xdp/devmap", "tc", "tcx/ingress", "classifier", "action", "socks", ""]
)
def test_what_is_for_no_such_hook(section: str) -> None:
    assert target(section) is None


def test_what_no_section_says_enough_of() -> None:
    for section, words in (
        ("struct_ops/init", "needs a map of operations"),
        ("freplace/f", "needs the program whose function it replaces"),
        ("fentry", "needs what to trace"),
        ("strange", "does not say what program f0 of"),
    ):
        spec = ObjectSpec(compile_c(source([section])), "made.o")
        with pytest.raises(ObjectError, match=words):
            load(spec, spec.programs[0], None)
    spec = ObjectSpec(compile_c(source(["fentry/no_such_function"])), "made.o")
    with pytest.raises(NotSupportedError, match="this kernel has no no_such_function"):
        load(spec, spec.programs[0], None)
