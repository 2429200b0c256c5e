"""Mistakes planted into the shipped programs, one at a time: what a tired colleague, or a merge, might make of them."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from tests.programs.building import ROOT
from tests.programs.mutation import ORIGINAL
from tests.support.compiling import compile_c


class Mutant(NamedTuple):
    """One mistake: in a file, what stands there (once) and what stands there instead."""

    name: str
    file: str  # "main" is the program's own source, others are headers
    old: str
    new: str


_GLOBALS: Final = (
    Mutant("counts what is too short", "main", "if (len < min_bytes)", "if (len + 1 < min_bytes)"),
    Mutant("does not count the shortest", "main", "if (len < min_bytes)", "if (len <= min_bytes)"),
    Mutant("counts twice", "main", "__sync_fetch_and_add(&packets, 1)", "__sync_fetch_and_add(&packets, 2)"),
    Mutant("counts bytes", "main", "__sync_fetch_and_add(&packets, 1)", "__sync_fetch_and_add(&packets, len)"),
    Mutant("counts in the next bucket", "main", "bucket = len / bucket_bytes;", "bucket = len / bucket_bytes + 1;"),
    Mutant("loses long frames", "main", "if (bucket >= BUCKETS)\n\t\tbucket = BUCKETS - 1;",
           "if (bucket >= BUCKETS)\n\t\treturn verdict;"),
    Mutant("forgets the last bucket", "main", "bucket = BUCKETS - 1;", "bucket = BUCKETS - 2;"),
)  # fmt: skip
_COUNT: Final = (
    Mutant("swaps TCP and UDP", "protocols.h",
           "class->ip = NETBPF_PROTO_IPV4_TCP", "class->ip = NETBPF_PROTO_IPV4_UDP"),
    Mutant("takes UDP over IPv6 for other", "protocols.h",
           "class->ip = NETBPF_PROTO_IPV6_UDP", "class->ip = NETBPF_PROTO_IPV6_OTHER"),
    Mutant("counts ARP as other", "protocols.h",
           "class->eth = NETBPF_PROTO_ARP", "class->eth = NETBPF_PROTO_ETH_OTHER"),
    Mutant("counts no VLAN", "protocols.h", "if (tagged)", "if (tagged && !tagged)"),
    Mutant("counts bytes once too often", "stats.h", "counter->bytes += bytes;", "counter->bytes += bytes + 1;"),
    Mutant("counts no bytes", "stats.h", "counter->bytes += bytes;", "(void)bytes;"),
    Mutant("knows one tag less", "parsing.h", "#define NETBPF_VLAN_MAX 4", "#define NETBPF_VLAN_MAX 3"),
    Mutant("knows one extension header less", "parsing.h", "#define NETBPF_EXT_MAX 8", "#define NETBPF_EXT_MAX 7"),
    Mutant("forgets that AH counts words of four", "parsing.h",
           "len = (ext->len + 2) * 4;", "len = (ext->len + 2) * 8;"),
    Mutant("takes a wrong version", "parsing.h", "hdr->version != 4 ||", ""),
)  # fmt: skip
_DROP: Final = (
    Mutant("forgets the address's last bit", "filter.h", "key.prefixlen = 32;", "key.prefixlen = 31;"),
    Mutant("forgets the last bit of IPv6", "filter.h", "key.prefixlen = 128;", "key.prefixlen = 127;"),
    Mutant("takes the next port", "filter.h",
           "&tcp_dport, bpf_ntohs(ports->dest)", "&tcp_dport, bpf_ntohs(ports->dest) + 1"),
    Mutant("swaps the ports", "filter.h",
           "&udp_sport, bpf_ntohs(ports->source)", "&udp_sport, bpf_ntohs(ports->dest)"),
    Mutant("forgets the order of bytes", "filter.h", "&udp_dport, bpf_ntohs(ports->dest)", "&udp_dport, ports->dest"),
    Mutant("takes TCP for UDP", "filter.h", "if (next == IPPROTO_TCP) {", "if (next == IPPROTO_UDP) {"),
    Mutant("asks the receiver's MAC", "filter.h", "&src_mac, eth->h_source", "&src_mac, eth->h_dest"),
    Mutant("swaps the exceptions", "filter.h",
           "netbpf_add(&except->malformed, bytes)", "netbpf_add(&except->link, bytes)"),
    Mutant("counts a rule for the next one", "filter.h",
           "rule = ~(__u32)(best >> 2) + 1;", "rule = ~(__u32)(best >> 2) + 2;"),
    Mutant("inverts the policy", "filter.h",
           "return policy == DROP ? DROP : PASS;", "return policy == DROP ? PASS : DROP;"),
    Mutant("lets the malformed pass", "filter.h", "netbpf_add(&except->malformed, bytes);\n\t\treturn DROP;",
           "netbpf_add(&except->malformed, bytes);\n\t\treturn PASS;"),
    Mutant("keeps no link", "filter.h",
           "if (walk == FILTER_LINK && keep_link && !best)", "if (walk == FILTER_LINK && !keep_link && !best)"),
    Mutant("prefers the worst rule", "filter.h", "if (score > *best)", "if (!*best || (score && score < *best))"),
    Mutant("looks into later fragments", "filter.h", "if (later_fragment)\n\t\treturn FILTER_DONE;", ""),
    Mutant("forgets the offset of fragments", "parsing.h",
           "ip->frag_off & bpf_htons(0x1fff)", "ip->frag_off & bpf_htons(0x0fff)"),
)  # fmt: skip
MUTANTS: Final[dict[str, tuple[Mutant, ...]]] = {
    "xdp_globals": _GLOBALS,
    "tc_globals": _GLOBALS,
    "xdp_count": (
        *_COUNT,
        Mutant("always passes", "main", "netbpf_count(ctx, verdict)", "netbpf_count(ctx, XDP_PASS)"),
    ),
    "tc_count": (
        *_COUNT,
        Mutant("says OK for UNSPEC", "main", "netbpf_count(ctx, verdict)",
               "netbpf_count(ctx, verdict < 0 ? 0 : verdict)"),
    ),
    "xdp_drop": (
        *_DROP,
        Mutant("inverts the verdict", "main", "DROP ? XDP_DROP : XDP_PASS", "DROP ? XDP_PASS : XDP_DROP"),
        Mutant("aborts for drop", "main", "DROP ? XDP_DROP", "DROP ? XDP_ABORTED"),
    ),
    "tc_drop": (
        *_DROP,
        Mutant("inverts the verdict", "main", "DROP ? TC_ACT_SHOT : TC_ACT_UNSPEC",
               "DROP ? TC_ACT_UNSPEC : TC_ACT_SHOT"),
        Mutant("ends the chain", "main", ": TC_ACT_UNSPEC", ": TC_ACT_OK"),
    ),
}  # fmt: skip


def build_mutants(program: str, into: Path) -> None:
    """The objects of a program's mutants, ``INTO/NAME/PROGRAM.bpf.o``, and of the program itself in ORIGINAL."""
    original = Mutant(ORIGINAL, "main", "", "")
    with ThreadPoolExecutor(2) as workers:
        # list() brings forth what went wrong.
        list(
            workers.map(
                lambda one: _build(program, one, into / one.name), (original, *MUTANTS[program])
            )
        )


def _build(program: str, mutant: Mutant, folder: Path) -> None:
    """Through the kept objects: a header's mutant stands in the source itself, and its guard keeps the header out."""
    source = (ROOT / program.partition("_")[0] / f"{program}.bpf.c").read_text()
    main = mutant.file == "main"
    text = source if main else (ROOT / "netbpf" / "include" / "netbpf" / mutant.file).read_text()
    if mutant.old:
        assert text.count(mutant.old) == 1, (
            f"{mutant.name}: {mutant.old!r} is not once in {mutant.file}"
        )
        text = text.replace(mutant.old, mutant.new)
    if not main:
        head = "#include <netbpf/"
        before, _, behind = source.partition(head)
        text = f"{before}{text}\n{head}{behind}"
    # What a header offers need not be used, but in the source itself clang complains of that.
    quiet = () if main else ("-Wno-unused-function",)
    flags = ("-Wall", "-Wextra", "-Werror", *quiet, f"-I{ROOT / 'netbpf' / 'include'}")
    folder.mkdir()
    (folder / f"{program}.bpf.o").write_bytes(compile_c(text, name=program, flags=flags))
