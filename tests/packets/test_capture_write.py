"""What netbpf writes: read back by others, and whole where the disk is full."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scapy.utils import PcapNgReader

from netbpf.constants import Hook
from netbpf.errors import NetbpfError, UsageError
from netbpf.packets.capture import CaptureWriter
from tests.packets.captures import pcap, read

FRAMES = [bytes([number]) * (14 + number) for number in range(8)]


def write(path: Path, hook: Hook, verdict: int) -> None:
    with CaptureWriter(path, hook) as writer:
        for number, data in enumerate(FRAMES):
            writer.write(
                data,
                1_700_000_000_123_456_789 + number,
                wire_length=100,
                verdict=verdict,
                comment=f"packet {number}".encode(),
            )


def test_netbpf_and_scapy_read_it_back(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    write(path, Hook.XDP, 2)
    found, warnings = read(path)
    assert warnings == []
    assert [(one.data, one.wire_length) for one in found] == [(data, 100) for data in FRAMES]
    assert [one.time_ns for one in found] == [1_700_000_000_123_456_789 + n for n in range(8)]
    with PcapNgReader(str(path)) as reader:
        assert [bytes(one) for one in reader] == FRAMES


@pytest.mark.parametrize(
    ("hook", "verdict", "field"),
    [(Hook.XDP, 1, "frame.verdict.ebpf_xdp"), (Hook.TC_INGRESS, -1, "frame.verdict.ebpf_tc")],
)
def test_wireshark_shows_verdict_comment_and_nanoseconds(
    tmp_path: Path, hook: Hook, verdict: int, field: str
) -> None:
    path = tmp_path / "out.pcapng"
    write(path, hook, verdict)
    fields = ["frame.time_epoch", "frame.len", "frame.cap_len", "frame.comment", field]
    command = ["tshark", "-r", str(path), "-T", "fields", *(f"-e{one}" for one in fields)]
    rows = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    first = rows[0].split("\t")
    assert first[:4] == ["1700000000.123456789", "100", "14", "packet 0"]
    assert int(first[4]) in (verdict, verdict + (1 << 64))
    assert len(rows) == len(FRAMES)


def test_it_does_not_write_over_what_it_reads(tmp_path: Path) -> None:
    path, other = tmp_path / "in.pcap", tmp_path / "link.pcap"
    path.write_bytes(pcap(FRAMES))
    other.symlink_to(path)
    with pytest.raises(UsageError, match="is the capture that is read"):
        CaptureWriter(other, Hook.XDP, not_over=path)
    assert path.read_bytes() == pcap(FRAMES)


def test_what_cannot_be_written_to(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "out.pcapng"):
        with pytest.raises(NetbpfError, match="cannot write"):
            CaptureWriter(path, Hook.XDP)
    with pytest.raises(NetbpfError, match="No space left on device"):
        CaptureWriter("/dev/full", Hook.XDP)


def test_a_full_disk_leaves_whole_packets(tmp_path: Path) -> None:
    """In a mount namespace of its own, on a file system of one MiB."""
    capture = tmp_path / "in.pcap"
    capture.write_bytes(pcap([bytes(14) + bytes([n % 256]) * 1000 for n in range(3000)]))
    disk = tmp_path / "disk"
    disk.mkdir()
    netbpf = Path(sys.executable).with_name("netbpf")
    script = (
        f"mount -t tmpfs -o size=1m tmpfs {disk} && "
        f"{netbpf} replay builtin:xdp_count {capture} -w {disk}/out.pcapng --json; echo $?; "
        f"cp {disk}/out.pcapng {tmp_path}/kept.pcapng"
    )
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    printed, code = done.stdout.splitlines()
    assert code == "1"
    error = json.loads(printed)["error"]
    assert error["message"] == f"cannot write {disk}/out.pcapng: No space left on device"
    found, warnings = read(tmp_path / "kept.pcapng")
    assert warnings == []
    assert error["hint"] == f"the first {len(found)} packets are in it, whole"
    assert 700 < len(found) < 1100
    assert [one.data[14] for one in found] == [n % 256 for n in range(len(found))]
    capinfos = shutil.which("capinfos")
    assert capinfos
    shown = subprocess.run(
        [capinfos, "-c", "-M", tmp_path / "kept.pcapng"], capture_output=True, text=True, check=True
    )
    assert f"Number of packets:   {len(found)}" in shown.stdout


def test_it_can_be_a_pipe(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE)
    write(fifo, Hook.XDP, 2)
    data, _ = reader.communicate(timeout=30)
    (tmp_path / "out.pcapng").write_bytes(data)
    assert len(read(tmp_path / "out.pcapng")[0]) == len(FRAMES)
