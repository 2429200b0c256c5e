"""Many packets per system call come out exactly as one TEST_RUN per packet lets them come out."""

import random
import struct
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from netbpf.packets import batch
from netbpf.packets.batch import BatchRunner, batch_runner
from netbpf.packets.capture import Block, open_capture
from netbpf.packets.replay_runner import Piece, Runner
from netbpf.packets.replay_single import SingleRunner
from netbpf.packets.testrun import Bench
from tests.packets.captures import pcap
from tests.support.compiling import compile_c

SOURCE = (Path(__file__).parent / "messing.bpf.c").read_text()
SIZES = [20, 34, 60, 60, 128, 300, 1514]
RARE = [0, 13, 14, 20, 1514, 3519, 3520, 3521, 4096, 4097, 9000, 70000, 80000]


class Came(NamedTuple):
    """Everything that came of a capture: verdicts and packets (or why there are none), and the maps."""

    packets: list[tuple[int, bytes] | str]
    maps: dict[str, list[bytes]]


def come(runner: Runner, bench: Bench, capture: Path) -> Came:
    packets: list[tuple[int, bytes] | str] = []
    with closing(runner), open_capture(capture) as opened:
        opened.use(runner.memory)
        for block in opened.blocks():
            at = 0
            for piece in runner.run(block):
                assert piece.begin == at
                at = piece.end
                if piece.refused:
                    packets.append(piece.refused)
                for index, verdict in enumerate(piece.verdicts):
                    data = piece.outputs.packet(index) if piece.outputs else b""
                    packets.append((verdict, data))
            assert at == len(block.starts)
    maps = {
        name: [bytes(value) for _, value in one.entries()]
        for name, one in bench.loaded.maps.items()
    }
    return Came(packets, maps)


def single(bench: Bench, *, outputs: bool = True) -> Runner:
    return SingleRunner(bench.fd, bench.hook, outputs=outputs)


def batched(bench: Bench, *, outputs: bool = True) -> BatchRunner:
    made = batch_runner(bench.loaded, outputs=outputs)
    assert made is not None
    return made


def bench(source: str = SOURCE, program: str | None = None, *, debug: bool = True) -> Bench:
    return Bench.open(compile_c(source, debug=debug), program=program)


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """Packets that ask for everything that ``messing`` can do."""
    chance = random.Random(11)
    frames = [
        chance.randbytes(chance.choice(RARE if number % 40 == 0 else SIZES))
        for number in range(12_000)
    ]
    path = tmp_path / "messy.pcap"
    path.write_bytes(pcap(frames))
    return path


@pytest.mark.parametrize("program", ["messing", "in_parts"])
def test_whatever_a_program_does_to_packets(messy: Path, program: str) -> None:
    with bench(program=program) as one:
        expected = come(single(one), one, messy)
    with bench(program=program) as one:
        found = come(batched(one), one, messy)
    assert found == expected
    verdicts = {came[0] for came in expected.packets if not isinstance(came, str)}
    assert verdicts == set(range(7))
    refused = {came for came in expected.packets if isinstance(came, str)}
    assert len(refused) == 2  # too short, too long


def test_verdicts_without_outputs(messy: Path) -> None:
    with bench(program="messing") as one:
        expected = come(single(one, outputs=False), one, messy)
    with bench(program="messing") as one:
        assert come(batched(one, outputs=False), one, messy) == expected


def test_headroom_is_cleared_between_packets(messy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above sees what a driver leaves there that forgets to."""
    with bench(program="messing") as one:
        expected = come(single(one), one, messy)
    monkeypatch.setattr(batch, "_reachable_headroom", lambda: 16)
    with bench(program="messing") as one:
        assert come(batched(one), one, messy) != expected


def test_only_packets_that_do_not_fit_are_run_alone(
    messy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the packet before left behind, it is put right, and not got around."""
    alone = []
    only = SingleRunner.only

    def counted(self: SingleRunner, block: Block, index: int) -> Piece:
        alone.append(block.lengths[index])
        return only(self, block, index)

    monkeypatch.setattr(SingleRunner, "only", counted)
    with bench(program="messing") as one:
        come(batched(one), one, messy)
    assert set(alone) <= {0, 13, 3521, 4096, 4097, 9000, 70000, 80000}


def test_metadata_alone(tmp_path: Path) -> None:
    """A program that finds what an earlier packet's metadata left, and says so by its verdict."""
    source = """
        #include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        SEC("xdp") int meta(struct xdp_md *ctx)
        {
            unsigned int *place, found;
            if (bpf_xdp_adjust_meta(ctx, -8))
                return XDP_ABORTED;
            place = (void *)(long)ctx->data_meta;
            if ((void *)(place + 2) > (void *)(long)ctx->data)
                return XDP_ABORTED;
            found = place[0];
            place[0] = XDP_TX;
            return found ? found : XDP_PASS;
        }
    """
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap([bytes([number]) * 60 for number in range(60)]))
    with bench(source) as one:
        found = come(batched(one), one, path)
    assert found.packets == [(2, bytes([number]) * 60) for number in range(60)]


def test_packets_longer_than_the_ones_before(tmp_path: Path) -> None:
    """What is behind a packet that got shorter is zero again when a later one gets longer."""
    source = """
        #include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        SEC("xdp") int longer(struct xdp_md *ctx) { return bpf_xdp_adjust_tail(ctx, 500) ? 0 : 2; }
    """
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap([b"\xff" * length for length in (1500, 60, 14, 800, 60)] * 50))
    with bench(source) as one:
        expected = come(single(one), one, path)
    with bench(source) as one:
        assert come(batched(one), one, path) == expected
    assert expected.packets[1] == (2, b"\xff" * 60 + bytes(500))


def test_more_outputs_than_fit_at_a_time(tmp_path: Path) -> None:
    source = """
        #include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        SEC("xdp") int grow(struct xdp_md *ctx) { return bpf_xdp_adjust_tail(ctx, 3000) ? 0 : 2; }
    """
    path = tmp_path / "in.pcap"
    frames = [struct.pack("<I", number) * 5 for number in range(3000)]
    path.write_bytes(pcap(frames))
    with bench(source) as one:
        found = come(batched(one), one, path)
    assert found.packets == [(2, data + bytes(3000)) for data in frames]


def test_calls_into_other_functions_loops_and_programs_without_types(tmp_path: Path) -> None:
    source = """
        #include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        __u64 total;
        static long add(__u32 index, void *sum) { *(__u64 *)sum += index; return 0; }
        __attribute__((noinline)) int weigh(struct xdp_md *ctx) { return ctx->data_end - ctx->data; }
        SEC("xdp") int calls(struct xdp_md *ctx)
        {
            __u64 sum = 0;
            bpf_loop(weigh(ctx) & 15, add, &sum, 0);
            total += sum;
            return sum & 1 ? XDP_DROP : XDP_PASS;
        }
    """
    plain = """
        #include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        SEC("xdp") int plain(struct xdp_md *ctx) { return ctx->data_end - ctx->data > 60 ? 1 : 2; }
    """
    chance = random.Random(5)
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap([chance.randbytes(chance.randrange(14, 100)) for _ in range(500)]))
    for text, debug in ((source, True), (plain, False)):
        with bench(text, debug=debug) as one:
            expected = come(single(one), one, path)
        with bench(text, debug=debug) as one:
            assert come(batched(one), one, path) == expected
        assert {came[0] for came in expected.packets} == {1, 2}


def test_programs_that_jump_elsewhere_run_one_by_one() -> None:
    source = """
        #include <linux/bpf.h>
        #include <bpf/bpf_helpers.h>
        struct {
            __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
            __uint(max_entries, 1);
            __type(key, __u32);
            __type(value, __u32);
        } jumps SEC(".maps");
        SEC("xdp") int jump(struct xdp_md *ctx) { bpf_tail_call(ctx, &jumps, 0); return XDP_PASS; }
    """
    with bench(source) as one:
        assert batch_runner(one.loaded, outputs=True) is None
