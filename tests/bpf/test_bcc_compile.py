"""BCC's dialect compiled by the real BCC into ordinary objects, which the kernel and other tools take."""

import functools
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.loader import load
from netbpf.bpf.object import ObjectSpec
from netbpf.compiler import Options, cached_object, compile_source
from netbpf.compiler.headers import kernel_tree
from netbpf.compiler.toolchain import find_clang, find_library
from netbpf.constants import Hook, MapType, XdpAction
from netbpf.errors import CompileError, ExitCode, ToolMissingError

ROOT = Path(__file__).parents[2]
COUNT = """\
#include <uapi/linux/bpf.h>
#include <linux/if_ether.h>

struct flow { u32 proto; u16 port[2]; };
struct sum { u64 packets; u64 bytes; u8 mac[6]; };
BPF_HASH(flows, struct flow, struct sum, 1024);
BPF_PERCPU_ARRAY(totals, long, 4);

int count(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct sum zero = {}, *sum;
	struct flow flow = {};
	u32 first = 0;
	long *total;

	if ((void *)(eth + 1) > end)
		return XDP_DROP;
	flow.proto = ntohs(eth->h_proto);
	sum = flows.lookup_or_try_init(&flow, &zero);
	if (sum) {
		sum->packets++;
		sum->bytes += end - data;
		__builtin_memcpy(sum->mac, eth->h_source, 6);
	}
	total = totals.lookup(&first);
	if (total)
		*total += 1;
	return XDP_PASS;
}
"""
# Every kind of table that XDP and TC programs use, and what BCC rewrites around them.
KINDS = """\
#include <uapi/linux/bpf.h>
#include <uapi/linux/pkt_cls.h>
struct prefix { u32 prefixlen; u32 address; };
struct event { u64 time; u32 length; };
BPF_ARRAY(settings, u32, 4);
BPF_LPM_TRIE(routes, struct prefix, u64, 64);
BPF_PROG_ARRAY(next, 8);
BPF_PERF_OUTPUT(events);
BPF_RINGBUF_OUTPUT(ring, 8);
BPF_HISTOGRAM(sizes);
BPF_DEVMAP(ports, 4);
BPF_CPUMAP(cpus, 4);
BPF_TABLE("lru_percpu_hash", u32, u64, recent, 64);
BPF_QUEUE(queue, u64, 16);
BPF_ARRAY(slot, u64, 1);
BPF_ARRAY_OF_MAPS(slots, "slot", 4);

int hop(struct xdp_md *ctx) { return XDP_TX; }

int all(struct xdp_md *ctx)
{
	u32 length = ctx->data_end - ctx->data;
	struct event event = {.length = length};
	struct prefix key = {32, length};
	int index = 1;
	u64 one = 1, *count;
	void *inner;

	settings.increment(1);
	sizes.increment(bpf_log2l(length));
	events.perf_submit(ctx, &event, sizeof(event));
	ring.ringbuf_output(&event, sizeof(event), 0);
	queue.push(&one, 0);
	recent.update(&length, &one);
	count = routes.lookup(&key);
	if (count)
		(*count)++;
	inner = slots.lookup(&index);
	if (inner && bpf_map_lookup_elem(inner, &index))
		return XDP_DROP;
	if (length == 1)
		return ports.redirect_map(0, 0);
	if (length == 2)
		return cpus.redirect_map(0, 0);
	bpf_trace_printk("length %d\\n", length);
	next.call(ctx, 2);
	return XDP_PASS;
}

int shape(struct __sk_buff *skb)
{
	u32 first = 0, *limit = settings.lookup(&first);
	return limit && skb->len > *limit ? TC_ACT_SHOT : TC_ACT_OK;
}

int other(struct pt_regs *ctx) { return 0; }
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETBPF_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


# Small, and with few headers, which take most of BCC's time: for what does not depend on the program.
SMALL = """\
BPF_ARRAY(flows, u64, 4);
int count(struct xdp_md *ctx)
{
	flows.increment(0);
	return XDP_PASS;
}
"""


@functools.cache
def _built(text: str) -> bytes:
    """The object of a source, compiled once for all tests that only look at it."""
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "prog.c")
        source.write_text(text)
        return compile_source(source, Path(directory, "out.o")).output.read_bytes()


def built(text: str) -> ObjectSpec:
    """As ``build`` makes it, which leaves the same files."""
    Path("prog.c").write_text(text)
    Path("out.o").write_bytes(_built(text))
    return ObjectSpec.open(Path("out.o"))


def build(text: str, name: str = "prog.c", options: Options | None = None) -> ObjectSpec:
    Path(name).write_text(text)
    return ObjectSpec.open(compile_source(name, "out.o", options).output)


def said(code: str, *before: str, **environment: str) -> str:
    """What a Python program prints that runs behind another command, such as one that hides directories."""
    done = subprocess.run(
        [*before, sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


COMPILE = """
    from netbpf.compiler import compile_source
    from netbpf.errors import NetbpfError
    try:
        print("compiled", compile_source("prog.c", "out.o").frontend)
    except NetbpfError as error:
        print(type(error).__name__, int(error.exit_code), error, "|", error.hint)
"""


# ------------------------------------------------------------------------------------- what comes out


def test_a_program_runs_and_its_tables_hold_what_it_counted() -> None:
    result = built(COUNT)
    packet = bytes.fromhex("020000000001 0a0b0c0d0e0f 0800") + bytes(46)
    with load(result, result.select(Hook.XDP), Hook.XDP) as loaded:
        for _ in range(3):
            assert (
                sys_bpf.prog_test_run(loaded.program.fd.fileno(), packet).retval == XdpAction.PASS
            )
        flows = loaded.maps["flows"]
        assert flows.info.type == MapType.HASH
        key = (0x0800).to_bytes(4, "little") + bytes(4)
        expected = (
            (3).to_bytes(8, "little")
            + (180).to_bytes(8, "little")
            + bytes.fromhex("0a0b0c0d0e0f0000")
        )
        assert flows.lookup(key) == expected


def test_tables_keep_the_types_that_the_source_gave_them() -> None:
    result = built(COUNT)
    assert result.btf is not None
    flows = result.maps["flows"]
    value = result.btf.resolve(flows.value_type_id)
    assert (value.name, [member.name for member in result.btf.members(value)]) == (
        "sum",
        ["packets", "bytes", "mac"],
    )
    assert result.btf.resolve(flows.key_type_id).name == "flow"
    assert (flows.key_size, flows.value_size, flows.max_entries) == (8, 24, 1024)
    assert result.license == "GPL"


def test_every_kind_of_table_and_program() -> None:
    result = built(KINDS)
    kinds = {name: (spec.type, spec.max_entries) for name, spec in result.maps.items()}
    assert kinds == {
        "settings": (MapType.ARRAY, 4), "routes": (MapType.LPM_TRIE, 64), "next": (MapType.PROG_ARRAY, 8),
        "events": (MapType.PERF_EVENT_ARRAY, 0),  # one slot per CPU of the machine that loads it
        "ring": (MapType.RINGBUF, 8 * 4096), "sizes": (MapType.ARRAY, 64), "ports": (MapType.DEVMAP, 4),
        "cpus": (MapType.CPUMAP, 4), "recent": (MapType.LRU_PERCPU_HASH, 64), "queue": (MapType.QUEUE, 16),
        "slot": (MapType.ARRAY, 1), "slots": (MapType.ARRAY_OF_MAPS, 4),
    }  # fmt: skip
    inner = result.maps["slots"].inner
    assert inner is not None
    assert (inner.type, inner.value_size, inner.max_entries) == (MapType.ARRAY, 8, 1)
    sections = {program.name: program.section for program in result.programs}
    assert sections == {"all": "xdp", "hop": "xdp", "shape": "tc", "other": "bcc/other"}


@pytest.mark.parametrize(
    ("name", "hook"), [("all", Hook.XDP), ("hop", Hook.XDP), ("shape", Hook.TC_INGRESS)]
)
def test_the_kernel_sees_the_program_that_bcc_would_have_loaded(name: str, hook: Hook) -> None:
    result = built(KINDS)
    tree = kernel_tree()
    code = f"""
        import re
        from bcc import BPF
        module = BPF(src_file="prog.c", cflags={tree.include_flags()!r})
        function = module.load_func("{name}", BPF.{"XDP" if hook is Hook.XDP else "SCHED_CLS"})
        print(re.search(r"prog_tag:\\s*(\\w+)", open(f"/proc/self/fdinfo/{{function.fd}}").read())[1])
    """
    python = "/usr/bin/python3"  # the interpreter that Debian's python3-bpfcc belongs to
    done = subprocess.run(
        [python, "-I", "-c", textwrap.dedent(code)], env={**os.environ, "BCC_KERNEL_SOURCE": str(tree.source)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    with load(result, result.select(hook, name), hook) as loaded:
        assert loaded.program.info.tag == done.stdout.strip()


def test_bpftool_loads_the_object_and_shows_typed_values() -> None:
    result = built(COUNT)
    commands = """
        mount -t bpf bpf /sys/fs/bpf
        bpftool prog load out.o /sys/fs/bpf/prog pinmaps /sys/fs/bpf/maps >&2
        bpftool -j prog show pinned /sys/fs/bpf/prog; echo
        bpftool map update pinned /sys/fs/bpf/maps/flows key hex 0 8 0 0 1 0 2 0 \
            value hex 1 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0 a b c d e f 0 0 >&2
        bpftool -j map dump pinned /sys/fs/bpf/maps/flows
    """
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", commands], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "BTF loading error" not in done.stderr
    program, flows = (json.loads(line) for line in done.stdout.splitlines() if line)
    assert (program["type"], program["name"], len(program["map_ids"])) == ("xdp", "count", 2)
    assert flows[0]["formatted"] == {
        "key": {"proto": 2048, "port": [1, 2]},
        "value": {"packets": 1, "bytes": 2, "mac": [10, 11, 12, 13, 14, 15]},
    }
    with load(result, result.select(Hook.XDP), Hook.XDP) as loaded:
        assert program["tag"] == loaded.program.info.tag


def test_a_map_of_maps_takes_the_maps_it_was_made_for() -> None:
    result = built(KINDS)
    with load(result, result.select(Hook.XDP, "all"), Hook.XDP, extra_maps=("slot",)) as loaded:
        slot = loaded.maps["slot"].fd.fileno()
        loaded.maps["slots"].update(bytes((1, 0, 0, 0)), slot.to_bytes(4, "little"))
        # The inner map has one entry, so the lookup of index 1 finds nothing and the program goes on.
        assert sys_bpf.prog_test_run(loaded.program.fd.fileno(), bytes(60)).retval == XdpAction.PASS


def test_own_headers_includes_and_defines(here: Path) -> None:
    (here / "src").mkdir()
    (here / "inc").mkdir()
    (here / "src/near.h").write_text("#define NEAR 1\n")
    (here / "inc/far.h").write_text("#define FAR 2\n")
    text = '#include "near.h"\n#include "far.h"\nBPF_ARRAY(a, u64, NEAR + FAR + HERE);\n'
    (here / "src/prog.c").write_text(
        text + "int prog(struct xdp_md *ctx) { a.increment(0); return XDP_PASS; }\n"
    )
    result = compile_source(
        "src/prog.c", options=Options(include_dirs=("inc",), defines=("HERE=4",))
    )
    assert ObjectSpec.open(result.output).maps["a"].max_entries == 7


@pytest.mark.parametrize(
    "name", ["with space.c", "-x.c", "@x.c", "a;touch pwned;.c", "new\nline.c"]
)
def test_names_that_a_shell_or_an_option_parser_would_misread(name: str) -> None:
    assert build(SMALL, name).select(Hook.XDP).name == "count"
    assert not Path("pwned").exists()


def test_the_frontend_can_be_named() -> None:
    text = "int prog(struct xdp_md *ctx) { return XDP_DROP; }\n"  # nothing here tells what it is written for
    result = build(text, options=Options(frontend="bcc"))
    assert result.select(Hook.XDP).section == "xdp"
    with pytest.raises(CompileError):
        build(text, options=Options(frontend="clang"))


def test_the_result_says_which_bcc_and_which_headers() -> None:
    Path("prog.c").write_text(SMALL)
    result = compile_source("prog.c")
    assert result.frontend == "bcc"
    assert result.compiler == "bcc " + find_library().resolve().name.removeprefix("libbcc.so.")
    running = os.uname().release
    release = kernel_tree().release
    assert bool(result.notes) == (release != running)
    assert all(release in note and running in note for note in result.notes)


def test_the_maps_that_bcc_made_while_compiling_are_gone() -> None:
    Path("prog.c").write_text(SMALL.replace("flows", "netbpf_gone_t"))
    compile_source("prog.c")
    maps = json.loads(
        subprocess.run(["bpftool", "-j", "map", "show"], capture_output=True, check=True).stdout
    )
    assert "netbpf_gone_t" not in {one.get("name") for one in maps}


def test_a_second_time_is_a_hit_until_a_header_changes(here: Path) -> None:
    (here / "size.h").write_text("#define SIZE 4\n")
    Path("prog.c").write_text(
        '#include "size.h"\nBPF_ARRAY(a, u64, SIZE);\nint prog(struct xdp_md *ctx) { return a.lookup(0) != 0; }\n'
    )
    first = cached_object("prog.c")
    assert (first.cached, cached_object("prog.c").cached) == (False, True)
    (here / "size.h").write_text("#define SIZE 8\n")
    again = cached_object("prog.c")
    assert not again.cached
    assert ObjectSpec.open(again.output).maps["a"].max_entries == 8


# -------------------------------------------------------------------------------------- what goes wrong


def test_errors_are_shown_once_and_name_the_source_itself() -> None:
    with pytest.raises(
        CompileError, match=r"prog\.c does not compile \(as BCC's dialect\)"
    ) as caught:
        build(COUNT.replace("u32 first = 0;", "u32 first = 0"))
    assert caught.value.output.startswith(
        "prog.c:15:15: error: expected ';' at end of declaration\n"
    )
    assert caught.value.output.count("error: expected ';'") == 1
    assert "/virtual" not in caught.value.output
    assert caught.value.exit_code == ExitCode.BAD_OBJECT
    assert not Path("out.o").exists()


@pytest.mark.parametrize(
    ("text", "message", "output"),
    [
        (
            "u64 counter;\nint prog(struct xdp_md *ctx) { counter++; return 2; }",
            "uses a global variable",
            "",
        ),
        (
            "static noinline int f(u32 x) { return x > 99; } int prog(struct xdp_md *ctx) { return f(ctx->data); }",
            "calls a function that is not inlined",
            "",
        ),
        (
            "int prog(struct xdp_md *ctx) { volatile char b[700]; b[ctx->data & 511] = 1; return b[1]; }",
            "does not compile",
            "stack limit of 512 bytes",
        ),
        (
            "int prog(struct xdp_md *ctx) { __builtin_trap(); }",
            "does not compile",
            "built-in function 'abort'",
        ),
        (
            'BPF_TABLE_PINNED("hash", u32, u64, t, 8, "/sys/fs/bpf/t"); int prog(void *ctx) { return 2; }',
            "uses BPF_TABLE_PINNED, which netbpf does not compile",
            "",
        ),
        (
            "extern int elsewhere(int);\nint prog(struct xdp_md *ctx) { return elsewhere(3); }",
            "does not compile",
            "cannot call non-static helper function",
        ),
    ],
    ids=["global", "noinline", "stack", "trap", "pinned", "extern"],
)
def test_what_bcc_cannot_do_is_an_error_and_not_a_broken_object(
    text: str, message: str, output: str
) -> None:
    with pytest.raises(CompileError, match=message) as caught:
        build("BPF_HASH(table, u32, u64);\n" + text + "\n")
    assert output in caught.value.output
    assert not Path("out.o").exists()


def test_a_crash_inside_bcc_is_a_clean_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = (
        "num_functions function_name function_start function_size num_tables table_name table_fd table_type_id "
        "table_max_entries_id table_flags_id module_license obj_get_info_by_fd"
    ).split()
    source = "".join(f"int bpf_{name}(void) {{ return 0; }}\n" for name in names)
    Path("crash.c").write_text(
        source + "int bpf_module_create_c(void) { return *(volatile int *)8; }\n"
    )
    subprocess.run(
        [find_clang(), "-shared", "-fPIC", "crash.c", "-o", "libbcc.so.0.99"], check=True
    )
    monkeypatch.setenv("NETBPF_LIBBCC", str(here / "libbcc.so.0.99"))
    with pytest.raises(
        CompileError, match=r"bcc 0\.99 was ended by SIGSEGV while compiling prog\.c"
    ):
        build(COUNT)


def test_a_library_that_is_not_bcc_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("libbcc.so.0").write_text("not a library")
    monkeypatch.setenv("NETBPF_LIBBCC", "libbcc.so.0")
    with pytest.raises(ToolMissingError, match="BCC's library cannot be used: "):
        build(COUNT)


def test_a_missing_bcc_names_the_package() -> None:
    Path("prog.c").write_text(COUNT)
    hide = 'mount --bind /dev/null "$0" && exec "$@"'
    # A device is no regular file, so the library is not there.
    answer = said(COMPILE, "unshare", "--mount", "sh", "-c", hide, str(find_library()))
    assert answer.startswith("ToolMissingError 5 BCC is not installed")
    assert "apt install python3-bpfcc" in answer


def test_missing_kernel_headers_name_the_package() -> None:
    Path("prog.c").write_text(COUNT)
    hide = 'mount -t tmpfs none /lib/modules && mount -t tmpfs none /usr/src && exec "$@"'
    answer = said(COMPILE, "unshare", "--mount", "sh", "-c", hide, "sh", BCC_KERNEL_SOURCE="")
    assert answer.startswith("ToolMissingError 5 BCC needs the kernel's headers")
    assert f"apt install linux-headers-{os.uname().release}" in answer


def test_headers_in_usr_src_are_enough() -> None:
    Path("prog.c").write_text(COUNT)
    answer = said(
        COMPILE,
        "unshare",
        "--mount",
        "sh",
        "-c",
        'mount -t tmpfs none /lib/modules && exec "$@"',
        "sh",
    )
    assert answer == "compiled bcc\n"


def test_a_kernel_tree_that_is_none_is_told() -> None:
    Path("prog.c").write_text(COUNT)
    answer = said(COMPILE, BCC_KERNEL_SOURCE="/usr")
    assert answer.startswith(
        "ToolMissingError 5 BCC_KERNEL_SOURCE=/usr is no tree of kernel headers"
    )


def test_without_the_right_to_make_maps_the_capability_is_named() -> None:
    Path("prog.c").write_text(COUNT)
    drop = (
        "setpriv",
        "--bounding-set=-bpf,-sys_admin",
        "--inh-caps=-bpf,-sys_admin",
        "--no-new-privs",
    )
    answer = said(COMPILE, *drop)
    assert answer.startswith("PermissionDeniedError 10 compiling BCC's dialect needs CAP_BPF")
