"""The counters of a per-CPU array of two words, summed over the CPUs by a program of our own.

BPF_MAP_LOOKUP_BATCH of the 16384 entries of ``hits`` takes milliseconds, and every check of a frame looks twice.
"""

import struct
from typing import Final

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.loader import Loaded, load
from netbpf.bpf.map import Map
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import Hook
from tests.support.compiling import compile_c

# Copies every entry that is not 0 on some CPU; a sum over CPUs alone could be 0 for large words.
_SOURCE: Final = """
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct words { __u64 first, second; };
struct sum { __u64 index; struct words words; };
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ENTRIES);
	__type(key, __u32);
	__type(value, struct words);
} counted SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ENTRIES);
	__type(key, __u32);
	__type(value, struct sum);
} sums SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} length SEC(".maps");

static long each(void *map, __u32 *index, void *value, __u32 *found)
{
	struct words all = {}, *one;
	struct sum *sum;
	__u64 any = 0;

	for (int cpu = 0; cpu < CPUS; cpu++) {
		one = bpf_map_lookup_percpu_elem(&counted, index, cpu);
		if (!one)
			continue;
		any |= one->first | one->second;
		all.first += one->first;
		all.second += one->second;
	}
	if (!any)
		return 0;
	sum = bpf_map_lookup_elem(&sums, found);
	if (sum) {
		sum->index = *index;
		sum->words = all;
		(*found)++;
	}
	return 0;
}

SEC("xdp") int tally(struct xdp_md *ctx)
{
	__u32 found = 0, zero = 0;
	__u64 *count = bpf_map_lookup_elem(&length, &zero);

	bpf_for_each_map_elem(&counted, each, &found, 0);
	if (count)
		*count = found;
	return XDP_PASS;
}
char _license[] SEC("license") = "GPL";
"""
_SUM: Final = struct.Struct("=QQQ")
_FRAME: Final = bytes(60)


class Tally:
    """Reads one map, which stays the caller's."""

    def __init__(self, of: Map) -> None:
        info = of.info
        flags = f"-DENTRIES={info.max_entries}", f"-DCPUS={of.entry_size // info.value_size}"
        spec = ObjectSpec(compile_c(_SOURCE, name="tally", flags=flags), "tally")
        self._loaded: Loaded = load(spec, spec.select(Hook.XDP), Hook.XDP, reuse={"counted": of})

    def read(self) -> dict[tuple[int, int], int]:
        """The words that are not 0, by (index, word)."""
        maps = self._loaded.maps
        sys_bpf.prog_test_run(self._loaded.program.fd.fileno(), _FRAME)
        count = int.from_bytes(maps["length"].lookup(bytes(4)) or b"", "little")
        if not count:
            return {}
        fd = maps["sums"].fd.fileno()
        sums = bytes(sys_bpf.map_lookup_batch(fd, None, count, 4, _SUM.size).values)
        found = {}
        for index, first, second in _SUM.iter_unpack(sums):
            found.update({(index, at): one for at, one in enumerate((first, second)) if one})
        return found

    def close(self) -> None:
        """Unload it."""
        self._loaded.close()
