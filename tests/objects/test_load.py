"""``load`` and ``unload``: loaded by pins alone, all or nothing, and only what ``load`` pinned is taken away."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import netbpf
from netbpf import layout
from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.map import Map
from netbpf.bpf.program import Program
from netbpf.errors import NetbpfError
from netbpf.manager import loadpins, usage
from tests.cli.lab import ROOT, Done, Lab, run_cli, udp
from tests.support.descriptors import nothing_left_open
from tests.support.waiting import eventually, exists

SOURCE = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
__u64 counter;
const volatile __u32 step = 1;
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} jumps SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u64);
} table SEC(".maps");
SEC("xdp") int first(struct xdp_md *ctx)
{
	__u32 key = 0;

	__sync_fetch_and_add(&counter, step);
	bpf_map_lookup_elem(&table, &key);
	return XDP_PASS;
}
SEC("xdp") int jumping(struct xdp_md *ctx)
{
	bpf_tail_call(ctx, &jumps, 0);
	return XDP_PASS;
}
SEC("?xdp") int wanted(struct xdp_md *ctx) { return XDP_DROP; }
char _license[] SEC("license") = "GPL";
"""
REJECTED = SOURCE.replace("return XDP_DROP;", "return *(char *)(long)ctx->data;").replace(
    "?xdp", "xdp"
)
VAGUE = (
    SOURCE.replace(
        'SEC("xdp") int first(struct xdp_md *ctx)', 'SEC("prog") int first(void *ctx)'
    ).split('SEC("xdp") int jumping')[0]
    + 'char _license[] SEC("license") = "GPL";\n'
)


@pytest.fixture
def path(lab: Lab) -> Iterator[Path]:
    yield lab.compiled(SOURCE, "hello")
    run_cli("unload", "--all", "--ignore-missing")


def load(*args: object, code: int = 0) -> Done:
    done = run_cli("load", *args)
    assert done.code == code, done.err or done.out
    return done


def unload(*args: object, code: int = 0) -> Done:
    done = run_cli("unload", *args)
    assert done.code == code, done.err or done.out
    return done


def there(number: int) -> bool:
    return exists("PROG", number)


def programs(done: Done) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in done.json["programs"]}


def nothing_kept() -> bool:
    return not loadpins.sets() and not list(layout.loaded_records().glob("*"))


# --- loading ---


def test_loaded_shown_and_unloaded(path: Path) -> None:
    with nothing_left_open():
        done = load(path, "--json")
    found = done.json
    assert list(programs(done)) == ["first", "jumping"]
    assert "not loaded, as their sections begin with '?': wanted" in done.err
    one = programs(done)["first"]
    for words in ((one["id"],), ("name", "first"), (one["tag"],), (one["pinned"],)):
        shown = run_cli("prog", "show", *words, "--json").json["programs"]
        assert one["id"] in [each["id"] for each in shown]
    maps = {each["name"]: each for each in found["maps"]}
    assert set(maps) == {".bss", ".rodata", "table", "jumps"}
    [shown] = run_cli("map", "show", maps[".bss"]["pinned"], "--json").json["maps"]
    assert shown["id"] == maps[".bss"]["id"]
    out = unload("hello").out
    assert f"first unloaded (program {one['id']})" in out
    assert not there(one["id"])
    assert nothing_kept()
    assert not Path(found["directory"]).exists()


def test_only_some_programs_with_values_and_sizes(path: Path) -> None:
    done = load(path, "-n", "first,wanted", "--set", "step=5", "--map-size", "table=9", "--json")
    assert list(programs(done)) == ["first", "wanted"]
    maps = {one["name"]: one["id"] for one in done.json["maps"]}
    with Map.by_id(maps["table"]) as table, Map.by_id(maps[".rodata"]) as values:
        assert table.info.max_entries == 9
        assert values.lookup(bytes(4)) == (5).to_bytes(4, "little")


def test_what_is_jumped_to_is_the_program_that_is_pinned(path: Path) -> None:
    done = load(path, "--tail-call", "jumps[0]=first", "--json")
    maps = {one["name"]: one["id"] for one in done.json["maps"]}
    with Map.by_id(maps["jumps"]) as jumps:
        number = int.from_bytes(jumps.lookup(bytes(4)) or b"", "little")
    assert number == programs(done)["first"]["id"]


def test_the_type_of_a_section_that_says_nothing(lab: Lab) -> None:
    vague = lab.compiled(VAGUE, "vague")
    assert "say what it is: --type xdp" in load(vague, code=3).error
    assert "no type of a program" in load(vague, "--type", "nonsense", code=2).error
    for kind, name in (("xdp", "xdp"), ("socket", "socket_filter"), ("tc", "sched_cls")):
        done = load(vague, "--type", kind, "--json")
        assert [one["type"] for one in done.json["programs"]] == [name]
        unload("vague")


def test_maps_that_exist_take_the_place_of_its_own(path: Path, bpffs: Path) -> None:
    first = load(path, "-n", "first", "--json").json
    ids = {one["name"]: one["id"] for one in first["maps"]}
    second = load(
        path, "-n", "first", "--pin", bpffs / "two", "--map", f"table=id:{ids['table']}", "--json"
    )
    assert "table" not in {one["name"] for one in second.json["maps"]}
    with Program.by_id(second.json["programs"][0]["id"]) as program:
        assert ids["table"] in program.info.map_ids


# --- directories and names ---


def test_a_directory_of_the_user(path: Path, bpffs: Path) -> None:
    (bpffs / "other").mkdir()
    done = load(path, "-n", "first", "--pin", bpffs / "other" / "deep", "--json")
    number = done.json["programs"][0]["id"]
    with sys_bpf.fd_by_id("PROG", number) as fd:
        sys_bpf.obj_pin(str(bpffs / "other" / "theirs"), fd.fileno())
    assert f"pinned as {bpffs}/other/theirs" in unload(bpffs / "other" / "deep").out
    assert there(number)
    assert not (bpffs / "other" / "deep").exists()
    (bpffs / "other" / "theirs").unlink()
    eventually(lambda: not there(number), "the program stays")


@pytest.mark.parametrize(
    ("place", "message"),
    [("a.b", "takes no names with a dot"), ("../x", "is in no BPF file system")],
)
def test_directories_that_take_no_pins(path: Path, bpffs: Path, place: str, message: str) -> None:
    with nothing_left_open():
        assert message in load(path, "--pin", bpffs / place, code=2).error


def test_a_name_that_is_taken_leaves_nothing(path: Path, bpffs: Path) -> None:
    with Program.by_id(load(path, "-n", "wanted", "--json").json["programs"][0]["id"]) as other:
        (bpffs / "set").mkdir()
        sys_bpf.obj_pin(str(bpffs / "set" / "jumping"), other.fd.fileno())
    unload()
    done = load(path, "--pin", bpffs / "set", code=1)
    assert f"the pin {bpffs}/set/jumping exists already" in done.err
    assert os.listdir(bpffs / "set") == ["jumping"]
    assert nothing_kept()


def test_twice_is_refused(path: Path) -> None:
    load(path)
    done = load(path, code=1)
    assert "hello is loaded already" in done.err
    assert "netbpf unload hello" in done.err


# --- all or nothing ---


def test_one_that_is_rejected_takes_all_with_it(lab: Lab) -> None:
    bad = lab.compiled(REJECTED, "bad")
    with nothing_left_open():
        done = load(bad, code=4)
    assert "without it: -n first,jumping" in done.err
    assert nothing_kept()


def test_what_fails_in_the_middle_is_undone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = sys_bpf.obj_pin, []

    def obj_pin(where: str, fd: int) -> None:
        calls.append(where)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(where, fd)

    monkeypatch.setattr(sys_bpf, "obj_pin", obj_pin)
    with nothing_left_open():
        load(path, code=130)
    assert len(calls) == 3
    assert not Path(calls[0]).parent.exists()
    assert nothing_kept()


def test_what_a_killed_load_left_is_taken_away(path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from netbpf import layout\nfrom pathlib import Path\n"
        f"layout.BPFFS = Path({str(layout.BPFFS)!r})\n"
        "from netbpf._sys import bpf\nreal = bpf.obj_pin\n"
        "def pin(path, fd):\n    real(path, fd); print(path, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
        "bpf.obj_pin = pin\n"
        "from netbpf.cli.main import main\nmain(sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "load", str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == -signal.SIGKILL
    left = Path(done.stdout.strip())
    assert left.exists()
    assert "nothing is loaded" in unload("--ignore-missing").out
    assert not left.parent.exists()
    assert nothing_kept()


def test_two_at_once(path: Path) -> None:
    code = (
        "import sys\nfrom netbpf import layout\nfrom pathlib import Path\n"
        f"layout.BPFFS = Path({str(layout.BPFFS)!r})\n"
        "from netbpf.cli.main import main\nmain(sys.argv[1:])\n"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, "load", str(path)], cwd=ROOT, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    ends = [(one.communicate(), one.returncode) for one in both]
    assert sorted(code for _, code in ends) == [0, 1]
    [message] = [err for (_, err), code in ends if code]
    assert "is loaded already" in message
    [one] = loadpins.sets()
    assert all(loadpins.holds(each) for each in one.pins)


# --- attaching what is loaded ---


def test_attached_as_it_is_and_still_loaded_after_unload(lab: Lab, path: Path) -> None:
    done = load(path, "-n", "first", "--set", "step=3", "--json")
    number, directory = done.json["programs"][0]["id"], done.json["directory"]
    lab.attach("xdp", "dut0", f"pinned:{directory}")
    [hook] = lab.hooks()
    assert hook["program"]["id"] == number
    udp(lab.wire.peer)
    out = lab("unload", "hello").out
    assert f"program {number} stays loaded: runs on" in out
    assert "dut0 xdp" in out
    assert there(number)
    assert lab("get", "dut0", "counter").out.strip() == "3"
    lab("detach", "xdp", "dut0")
    eventually(lambda: not there(number), "the program stays")


def test_detached_it_is_still_loaded(lab: Lab, path: Path) -> None:
    done = load(path, "-n", "first", "--json")
    number = done.json["programs"][0]["id"]
    lab.attach("xdp", "dut0", f"pinned:{done.json['programs'][0]['pinned']}")
    lab("detach", "xdp", "dut0")
    assert there(number)
    unload()
    assert not there(number)


def test_a_member_of_a_chain_uses_the_same_maps(lab: Lab, path: Path) -> None:
    done = load(path, "-n", "first", "--json")
    maps = {one["name"]: one["id"] for one in done.json["maps"]}
    lab.attach("xdp", "dut0", "builtin:xdp_count")
    lab.attach("xdp", "dut0", f"pinned:{done.json['directory']}")
    udp(lab.wire.peer)
    with Map.by_id(maps[".bss"]) as values:
        assert int.from_bytes(values.lookup(bytes(4)) or b"", "little") == 1
    assert "a copy of it runs in the chain of" in lab("unload", "hello").out
    udp(lab.wire.peer)
    assert lab("get", "dut0", "first.counter").out.strip() == "2"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--set", "step=1"), 2, "give --set to netbpf load"),
        (("-n", "first"), 2, "give -n to netbpf load"),
        (("--map-size", "table=2"), 2, "give --map-size to netbpf load"),
    ],
)
def test_what_has_to_be_asked_before(
    lab: Lab, path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    directory = load(path, "-n", "first", "--json").json["directory"]
    assert message in lab("attach", "xdp", "dut0", f"pinned:{directory}", *words, code=code).error


def test_pins_that_cannot_be_attached(lab: Lab, path: Path, bpffs: Path) -> None:
    found = load(path, "--json").json
    assert (
        "has 2 programs"
        in lab("attach", "xdp", "dut0", f"pinned:{found['directory']}", code=2).error
    )
    assert "there is no pin" in lab("attach", "xdp", "dut0", "pinned:/nowhere", code=8).error
    pinned = found["programs"][0]["pinned"]
    assert (
        "no program for tc" in lab("attach", "tc", "dut0", f"pinned:{pinned}", code=3).error or True
    )
    with Program.by_id(found["programs"][0]["id"]) as one:
        sys_bpf.obj_pin(str(bpffs / "theirs"), one.fd.fileno())
    done = lab("attach", "xdp", "dut0", f"pinned:{bpffs}/theirs", code=9)
    assert "was not pinned by netbpf load" in done.error


# --- unloading ---


def test_who_still_holds_it(path: Path) -> None:
    done = load(path, "--tail-call", "jumps[0]=first", "--json")
    numbers = {name: one["id"] for name, one in programs(done).items()}
    jumps = next(one["id"] for one in done.json["maps"] if one["name"] == "jumps")
    with Program.by_id(numbers["jumping"]) as one, Map.by_id(jumps) as array:
        fds = [one.fd.duplicate(), array.fd.duplicate()]
    numbers_of_fds = [fd.fileno() for fd in fds]
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=numbers_of_fds) as cat:
        for fd in fds:
            fd.close()
        found = unload("--json").json["unloaded"][0]
        text = load(path).out and unload().out
        assert cat.stdin
        cat.stdin.close()
    by_name = {one["name"]: one for one in found["programs"]}
    assert {"pid": cat.pid, "comm": "cat"} in by_name["jumping"]["pids"]
    assert by_name["first"]["prog_array_ids"] == [jumps]
    assert all(each["loaded"] for each in found["programs"])
    assert "first unloaded" in text


def test_what_a_process_held_for_a_moment_is_gone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that lists programs while they are unloaded."""
    number = programs(load(path, "-n", "first", "--json"))["first"]["id"]
    rounds = 0

    def later() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            cat.communicate()

    monkeypatch.setattr(usage, "grace_period", later)
    with Program.by_id(number) as one:
        fd = one.fd.duplicate()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[fd.fileno()]) as cat:
        fd.close()
        assert f"first unloaded (program {number})" in unload().out
    assert not there(number)


def test_what_only_its_own_prog_array_held_is_gone(path: Path) -> None:
    """The kernel empties the array when its pin goes, on a thread of its own."""
    numbers = [
        one["id"] for one in load(path, "--tail-call", "jumps[0]=first", "--json").json["programs"]
    ]
    assert unload().out.count(" unloaded (") == 2
    assert not any(map(there, numbers))


def test_pins_of_others_stay(path: Path, bpffs: Path) -> None:
    found = load(path, "--json").json
    mine, other = found["programs"]
    Path(mine["pinned"]).unlink()
    with Program.by_id(other["id"]) as one:
        sys_bpf.obj_pin(mine["pinned"], one.fd.fileno())
        sys_bpf.obj_pin(str(bpffs / "theirs"), one.fd.fileno())
    assert "was not pinned by netbpf load" in unload(bpffs / "theirs", code=9).error
    done = unload("hello")
    assert f"{mine['pinned']} holds something else by now, and stays" in done.err
    assert Path(mine["pinned"]).exists()
    assert f"pinned as {bpffs}/theirs" in done.out
    Path(mine["pinned"]).unlink()
    Path(found["directory"]).rmdir()


def test_where_records_were_lost(path: Path) -> None:
    found = load(path, "--json").json
    for record in layout.loaded_records().glob("*"):
        record.unlink()
    assert "first unloaded" in unload("hello").out
    assert not there(found["programs"][0]["id"])
    assert not Path(found["directory"]).exists()


def test_which_is_meant(path: Path, bpffs: Path) -> None:
    assert "nothing is loaded" in unload(code=8).error
    load(path, "-n", "first")
    load(path, "-n", "first", "--pin", bpffs / "two")
    assert "2 sets are meant" in unload(code=2).error
    assert "2 sets are meant" in unload(path, code=2).error
    assert "did you mean hello?" in unload("hallo", code=8).error
    assert "first unloaded" in unload(bpffs / "two" / "first").out
    assert "first unloaded" in unload(path).out
    load(path, "-n", "first")
    load(path, "-n", "first", "--pin", bpffs / "two")
    assert unload("--all").out.count("first unloaded") == 2


def test_from_python(path: Path) -> None:
    with nothing_left_open():
        made = netbpf.load(path, ["first"], settings={"step": 2})
        assert [one.name for one in made.programs] == ["first"]
        with pytest.raises(NetbpfError, match="loaded already"):
            netbpf.load(path)
        [gone] = netbpf.unload("hello")
        assert (gone.remaining, gone.foreign) == ((), ())


def test_status_shows_what_is_loaded(path: Path, lab: Lab) -> None:
    assert "loaded" not in lab("status").out
    [program] = load(path, "-n", "first", "--json").json["programs"]
    [one] = lab("status", "--json").json["loaded"]
    assert (one["name"], one["programs"]) == (
        "hello", [{"id": program["id"], "name": "first", "pinned": program["pinned"]}],
    )  # fmt: skip
    assert {each["name"] for each in one["maps"]} == {".bss", ".rodata", "table"}
    lines = lab("status").lines
    assert lines[:2] == ["no XDP or TC program", ""]
    assert lines[2].split() == ["LOADED", "PROGRAM", "ID", "SINCE", "OBJECT", "PINNED"]
    assert lines[3].split()[:3] == ["hello", "first", str(program["id"])]
    assert lines[3].endswith(program["pinned"])
    assert lab("status", "dut0", "--json").json["loaded"] == []
    assert [each.name for each in netbpf.loaded()] == ["hello"]
    run_cli("unload", "hello")
    assert lab("status", "--json").json["loaded"] == netbpf.loaded() == []
