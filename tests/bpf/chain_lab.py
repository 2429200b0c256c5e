"""A bench for chains: members from C, linked, and run by BPF_PROG_TEST_RUN."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.chain import Chain, Counters, Part, build, verdicts
from netbpf.bpf.loader import Prepared, prepare
from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import Hook
from tests.support.compiling import CLANGS, compile_c

FRAME = bytes.fromhex("020000000002020000000001 0800").ljust(64, b"\0")

HEAD = """
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#define noinline __attribute__((noinline))
/* The compiler must not know what a value is. */
#define opaque(x) ({ __u64 _x = (x); asm volatile("" : "+r"(_x)); _x; })
#define MAP(name, kind, size, k, v) \\
	struct { __uint(type, BPF_MAP_TYPE_##kind); __uint(max_entries, size); __type(key, k); __type(value, v); } \\
	name SEC(".maps")
char _license[] SEC("license") = "GPL";
"""


class Bench:
    """Members and chains of one hook; everything is let go of when the block ends."""

    def __init__(self, hook: Hook = Hook.XDP) -> None:
        self.hook = hook
        self.opened = ExitStack()
        self.counters = self.opened.enter_context(Counters.create(hook))
        self.prepared: dict[str, Prepared] = {}
        self.slots = 0

    def spec(
        self, source: str, *, debug: bool = True, clang: str = CLANGS[0], cpu: str = "v3"
    ) -> ObjectSpec:
        return ObjectSpec(compile_c(HEAD + source, debug=debug, clang=clang, cpu=cpu), "made.o")

    def member(
        self,
        what: str | ObjectSpec,
        name: str = "",
        proceed: Sequence[str] | None = None,
        *,
        program: str | None = None,
        reuse: dict[str, Map] | None = None,
    ) -> Part:
        """A member, of an object or of C."""
        spec = self.spec(what) if isinstance(what, str) else what
        chosen = spec.select(self.hook, program)
        made = self.opened.enter_context(prepare(spec, chosen, self.hook, reuse=reuse))
        name = name or f"m{self.slots}"
        self.prepared[name] = made
        self.slots += 1
        numbers = verdicts.numbers(self.hook, proceed)
        return Part(name, spec, chosen, made.image, numbers, self.slots - 1)

    def build(self, *parts: Part) -> Chain:
        return self.opened.enter_context(build(parts, self.hook, self.counters))

    def run(
        self, chain: Chain, frame: bytes = FRAME, *, repeat: int = 1, context: bytes = b""
    ) -> sys_bpf.TestRun:
        return sys_bpf.prog_test_run(
            chain.fd.fileno(), frame, data_out_size=len(frame) + 256, repeat=repeat, context=context,
            context_out_size=len(context),
        )  # fmt: skip

    def verdict(self, *parts: Part, frame: bytes = FRAME, repeat: int = 1) -> int:
        """What a chain of these says of a frame, as a signed number."""
        found = self.run(self.build(*parts), frame, repeat=repeat).retval
        return found - (1 << 32) if found >> 31 else found

    def counts(self, part: Part) -> dict[str, int]:
        return self.counters.read()[part.slot]

    def map(self, part: Part, name: str) -> Map:
        return self.prepared[part.name].maps[name]

    def number(self, part: Part, section: str = ".bss", offset: int = 0, size: int = 8) -> int:
        """A variable."""
        raw = self.map(part, section).lookup(bytes(4))
        assert raw is not None
        return int.from_bytes(raw[offset : offset + size], "little")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.opened.close()


def returning(number: int, section: str = "xdp") -> str:
    """A program that counts its runs and says one thing."""
    context = "xdp_md" if section.startswith("xdp") else "__sk_buff"
    return f"""
__u64 runs;
SEC("{section}") int says(struct {context} *ctx) {{ runs++; return {number}; }}
"""


OBJECTS = Path(__file__).parents[2] / "netbpf" / "_objects"
