"""xdp_globals and tc_globals: a counter, an array, a live setting and fixed ones."""

import pytest

import netbpf
from netbpf.errors import NotSupportedError
from netns_fixtures.rig import Rig
from tests.programs.frames import strange, tagged, tcp4

DROP = {"xdp": "XDP_DROP", "tc": "TC_ACT_SHOT"}
GLOBALS = {"xdp": "builtin:xdp_globals", "tc": "builtin:tc_globals"}


@pytest.mark.attach_kinds("everywhere")
def test_frames_are_counted_by_length(rig: Rig) -> None:
    program = rig.attach(GLOBALS)
    sizes = [14, 255, 256, 511, 512, 1514]
    with program.changes({"packets": 6, "sizes": [2, 2, 1, 0, 0, 1, 0, 0]}):
        rig.send([strange(size) for size in sizes])
    assert program.get("packets") == 6
    assert program.get("sizes") == [2, 2, 1, 0, 0, 1, 0, 0]
    assert program.get("sizes[5]") == 1


@pytest.mark.attach_kinds("everywhere")
def test_the_last_entry_takes_everything_longer(rig: Rig) -> None:
    program = rig.attach(GLOBALS, variables={"bucket_bytes": 100})
    with program.changes({"packets": 5, "sizes": [1, 0, 0, 0, 0, 0, 1, 3]}):
        rig.send(*(strange(size) for size in (99, 699, 700, 800, 1514)))


@pytest.mark.attach_kinds("everywhere")
def test_min_bytes_changes_while_running(rig: Rig) -> None:
    program = rig.attach(GLOBALS)
    frames = strange(59), strange(60), strange(61)
    with program.changes({"packets": 3, "sizes": [3]}):
        rig.send(*frames)
    program.set({"min_bytes": 60})
    with program.changes({"packets": 2, "sizes": [2]}):
        rig.send(*frames)
    program.set({"min_bytes": 0})
    with program.changes({"packets": 3, "sizes": [3]}):
        rig.send(*frames)
    program.set({"min_bytes": 4294967295})
    with program.changes({}):
        rig.send(*frames)


@pytest.mark.attach_kinds("everywhere")
def test_a_bucket_of_zero_bytes_is_safe(rig: Rig) -> None:
    """BPF defines x / 0 as 0."""
    program = rig.attach(GLOBALS, variables={"bucket_bytes": 0})
    with program.changes({"packets": 2, "sizes": [2]}):
        rig.send(strange(14), strange(1514))


@pytest.mark.attach_kinds("everywhere")
def test_a_bucket_larger_than_any_frame_takes_all(rig: Rig) -> None:
    program = rig.attach(GLOBALS, variables={"bucket_bytes": 2**64 - 1})
    with program.changes({"packets": 2, "sizes": [2]}):
        rig.send(strange(14), strange(1514))


@pytest.mark.attach_kinds("everywhere")
def test_every_frame_passes_unless_the_verdict_says_otherwise(rig: Rig) -> None:
    with rig.attach(GLOBALS):
        rig.send(tcp4(), tagged(tcp4(), 0x8100))
        rig.expect(tcp4(), tagged(tcp4(), 0x8100))
        rig.assert_verdict({"xdp": "pass", "tc": "unspec"}, tcp4(), tagged(tcp4(), 0x8100))
    if rig.kind.id != "xdp-skb":  # where nothing that drops all tells that it has
        rig.attach(GLOBALS, variables={"verdict": DROP[rig.kind.family]})
        rig.assert_verdict("drop", tcp4(), strange(14))


@pytest.mark.attach_kinds("xdp-native", "xdp-skb", "tc-clsact", "tc-tcx")
def test_settings_are_given_as_on_a_command_line(rig: Rig, private_state: None) -> None:
    family, end = rig.kind.family, rig.wire.dut
    drop = "XDP_DROP" if family == "xdp" else "TC_ACT_SHOT"
    mode = rig.kind.mode if family == "xdp" else None
    with netbpf.attach(
        "xdp" if family == "xdp" else "tc", end.ifname, GLOBALS[family], mode=mode, netns=end.namespace,
        link=rig.kind.mode == "tcx",
        settings=[f"verdict={drop}", "bucket_bytes=0x40", "min_bytes=65", "sizes[3]=7", "packets=100"],
    ) as attached:  # fmt: skip
        rig.send(strange(64), strange(65), strange(130), strange(200))
        assert attached.get("packets") == 103
        assert attached.get("sizes") == [0, 1, 1, 8, 0, 0, 0, 0]
        assert rig.passed.packets() == []
        attached.set_values(["packets=0", "sizes=[0, 0, 0, 0, 0, 0, 0, 0]"])
        assert attached.get("packets") == 0
        with pytest.raises(NotSupportedError, match="frozen"):
            attached.set_values(["verdict=0"])
