"""Programs from C that are loaded, run by BPF_PROG_TEST_RUN, and upgraded."""

from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.linker import link
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec
from netbpf.bpf.program import btf_by_id
from netbpf.carry import Carrier, Item, Plan, Report, plan
from netbpf.constants import Hook
from netbpf.live.reader import OpenMap
from tests.support.compiling import CLANGS, compile_c

HEAD = """
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/in6.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#define MAP(name, kind, size, k, v) \\
	struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, size); __type(key, k); __type(value, v); } \\
	name SEC(".maps")
/* The compiler must not know what a value is, nor leave a variable away. */
#define USE(x) asm volatile("" : : "r"(&(x)) : "memory")
char _license[] SEC("license") = "GPL";
"""
PACKET = bytes(64)
Value = Any


def program(body: str = "", before: str = "", *, section: str = "xdp") -> str:
    """C with one program, which uses what ``before`` declares as ``body`` says."""
    context = "xdp_md" if section.startswith("xdp") else "__sk_buff"
    return f'{before}\nSEC("{section}") int prog(struct {context} *ctx) {{ {body}; return 2; }}\n'


class Lab:
    """Everything it opens is let go of when the block ends."""

    def __init__(self) -> None:
        self.opened = ExitStack()

    def data(self, source: str, *, debug: bool = True, clang: str = CLANGS[0]) -> ObjectSpec:
        """An object, fresh."""
        return ObjectSpec(compile_c(HEAD + source, debug=debug, clang=clang), "made.o")

    def old(
        self,
        source: str | ObjectSpec,
        *,
        reuse: dict[str, Map] | None = None,
        hook: Hook = Hook.XDP,
        name: str | None = None,
        extra: tuple[str, ...] = (),
    ) -> "Running":
        """An object's program in the kernel."""
        spec = source if isinstance(source, ObjectSpec) else self.data(source)
        loaded = load(spec, spec.select(hook, name), hook, reuse=reuse, extra_maps=extra)
        return Running(self, self.opened.enter_context(loaded), hook)

    def plan(
        self,
        old: "Running",
        new: str | ObjectSpec,
        *,
        name: str | None = None,
        reset: Iterable[str] = (),
        shared: Iterable[str] = (),
    ) -> Plan:
        """A plan for a new object."""
        spec = new if isinstance(new, ObjectSpec) else self.data(new)
        uses = link(spec, spec.select(old.hook, name).function).map_names
        fresh = ObjectSpec(old.loaded.spec.data, "made.o")
        return plan(old.loaded.maps, fresh, spec, uses, reset=list(reset), shared=list(shared))

    def upgraded(
        self, old: "Running", new: str | ObjectSpec, *, reset: Iterable[str] = ()
    ) -> "Upgrade":
        """An upgrade up to the copy: both programs can run, and ``finish`` merges."""
        return Upgrade(self, old, self.plan(old, new, reset=reset))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.opened.close()


class Running:
    """A loaded program and its values by name."""

    def __init__(self, lab: Lab, loaded: Loaded, hook: Hook) -> None:
        self.lab, self.loaded, self.hook = lab, loaded, hook

    @property
    def fd(self) -> int:
        return self.loaded.program.fd.fileno()

    def run(self, times: int = 1, packet: bytes = PACKET) -> None:
        # With `repeat` each call waits for two RCU grace periods: the kernel changes its XDP dispatcher.
        for _ in range(times):
            sys_bpf.prog_test_run(self.fd, packet)

    def map(self, name: str) -> Map:
        return self.loaded.maps[name]

    def open(self, name: str) -> OpenMap:
        one = self.map(name)
        return OpenMap(one, btf_by_id(one.info.btf_id))

    def variables(self) -> dict[str, Value]:
        """Every global variable."""
        found: dict[str, Value] = {}
        for name in self.loaded.maps:
            opened = self.open(name)
            if opened.section:
                values = opened.value(self.map(name).lookup(bytes(4)) or b"")
                assert isinstance(values, dict)
                found |= values
        return found

    def entries(self, name: str) -> dict[Value, Value]:
        """What is in a map; numbers of all CPUs are added."""
        opened = self.open(name)
        return {
            _hashable(opened.key(key)): opened.total(value)
            for key, value in self.map(name).entries()
        }

    def raw(self, section: str) -> bytes:
        data = self.map(section).lookup(bytes(4))
        assert data is not None
        return data

    def write(self, section: str, data: bytes) -> None:
        self.map(section).update(bytes(4), data)

    def put(self, name: str, key: int, value: bytes) -> None:
        """One entry, of the same value on every CPU."""
        one = self.map(name)
        if one.per_cpu:
            value = value.ljust(one.stride, b"\0") * (one.entry_size // one.stride)
        one.update(key.to_bytes(one.info.key_size, "little"), value)


class Upgrade:
    """Maps copied and the new program loaded; ``old`` and ``new`` run."""

    def __init__(self, lab: Lab, old: Running, planned: Plan) -> None:
        self.plan, self.old = planned, old
        self.carrier = lab.opened.enter_context(Carrier(planned))
        self.carrier.copy()
        spec = planned.spec
        self.new = lab.old(spec, reuse=self.carrier.maps, hook=old.hook, extra=planned.extra)

    def finish(self) -> Report:
        return self.carrier.finish()


def items(planned: Plan) -> dict[str, Item]:
    return {one.name: one for one in planned.items}


def actions(planned: Plan) -> dict[str, str]:
    return {one.name: str(one.action) for one in planned.items}


def lines(planned: Plan) -> list[str]:
    return [line for one in planned.items for line in one.lines]


def _hashable(key: Value) -> Value:
    return tuple(key.values()) if isinstance(key, dict) else key
