"""netbpf doctor on the kernel: each check in a state that makes it fail, and after the command that it prints."""

import resource

import pytest

from netbpf.host import kernel_checks, network
from netbpf.host.finding import Level
from tests.host.room import Room

pytestmark = pytest.mark.root
CORE = "/proc/sys/net/core"


def cured(room: Room, broken: dict[str, object], check: str) -> None:
    """Running what a finding prints makes it ok."""
    assert broken["fix"], broken
    for command in broken["fix"]:  # type: ignore[attr-defined]
        room.sh(command)
    after = room.one(check, str(broken["check"]))
    assert after["level"] == "ok", after


@pytest.mark.parametrize(
    ("check", "label", "breaking", "level", "words"),
    [
        ("kernel_checks.jit", "JIT", f"echo 0 >{CORE}/bpf_jit_enable", "warning", "interpreted"),
        ("kernel_checks.jit", "JIT", f"echo 2 >{CORE}/bpf_jit_enable", "warning", "log"),
        ("kernel_checks.jit", "JIT hardening", f"echo 2 >{CORE}/bpf_jit_harden", "warning", "blinded"),
        ("kernel_checks.jit", "JIT symbols", f"echo 0 >{CORE}/bpf_jit_kallsyms", "warning", "is 0"),
        ("kernel_checks.jit", "JIT limit", f"echo 4096 >{CORE}/bpf_jit_limit", "warning", "4,096 bytes"),
        ("kernel_checks.bpffs", "bpffs", "mount -t tmpfs tmpfs /sys/fs/bpf", "warning", "none is mounted"),
        ("kernel_checks.bpffs", "bpffs", "mount -o remount,ro /sys/fs/bpf", "problem", "read-only"),
        ("kernel_checks.bpffs", "bpffs", "chmod 777 /sys/fs/bpf", "warning", "mode 777"),
        ("kernel_checks.tracefs", "tracefs", "mount -t tmpfs tmpfs /sys/kernel/tracing", "warning", "none is mounted"),
        ("kernel_checks.unprivileged", "unprivileged BPF",
         "echo 0 >/run/zero; mount --bind /run/zero /proc/sys/kernel/unprivileged_bpf_disabled", "warning", "is 0"),
        ("network.checks", "backlog", f"echo 100 >{CORE}/netdev_max_backlog", "warning", "default is 1000"),
        ("network.checks", "budget", f"echo 30 >{CORE}/netdev_budget", "warning", "default is 300"),
    ],
)  # fmt: skip
def test_a_state_that_is_not_ok_and_its_cure(
    room: Room, check: str, label: str, breaking: str, level: str, words: str
) -> None:
    assert room.one(check, label)["level"] == "ok"
    room.sh(breaking)
    broken = room.one(check, label)
    assert broken["level"] == level
    assert words in broken["text"]
    cured(room, broken, check)


def test_the_kernel_and_its_types(room: Room) -> None:
    assert "it loads programs" in room.one("kernel_checks.kernel")["text"]
    assert room.one("kernel_checks.btf")["level"] == "ok"
    room.sh("mount -t tmpfs tmpfs /sys/kernel/btf")
    found = room.one("kernel_checks.btf")
    assert (found["level"], "CO-RE" in found["why"]) == ("warning", True)
    room.sh("umount /sys/kernel/btf")


@pytest.mark.parametrize(
    ("mode", "level"), [("integrity", "warning"), ("confidentiality", "problem")]
)
def test_lockdown(room: Room, mode: str, level: str) -> None:
    assert room.one("kernel_checks.lockdown")["text"] == "none"
    modes = " ".join(
        f"[{one}]" if one == mode else one for one in ("none", "integrity", "confidentiality")
    )
    room.sh(
        f"mount -t tmpfs tmpfs /sys/kernel/security; echo '{modes}' >/sys/kernel/security/lockdown"
    )
    found = room.one("kernel_checks.lockdown")
    assert (found["level"], found["text"]) == (level, mode)
    assert "forbids" in found["why"]
    room.sh("umount /sys/kernel/security")


def test_a_bpffs_that_ends_with_its_mount_namespace(room: Room) -> None:
    code, out, _ = room.ended(
        "unshare --mount sh -c 'mount -t bpf bpf /sys/fs/bpf && netbpf doctor | grep -A2 bpffs'"
    )
    assert code == 0
    assert "ends with this mount namespace" in out


def test_where_settings_cannot_be_seen_the_program_tells(room: Room) -> None:
    """Another network namespace has no net.core.bpf_jit_enable; whether a program was compiled can still be seen."""
    room.sh("umount /proc/sys/net/core")
    assert room.sh("ls /proc/sys/net/core").split().count("bpf_jit_enable") == 0
    assert room.one("kernel_checks.jit", "JIT")["text"] == "programs are compiled to machine code"
    assert room.one("network.checks")["check"] == "net.core"
    room.sh("mount -t tmpfs tmpfs /proc/sys/net/core; cd /proc/sys/net/core; echo 1 >bpf_jit_enable;"
            "echo 0 >bpf_jit_harden; echo 1 >bpf_jit_kallsyms; echo 528482304 >bpf_jit_limit;"
            "echo 1000 >netdev_max_backlog; echo 300 >netdev_budget")  # fmt: skip


# --- what this kernel cannot be made to be ---


def test_memory_limits_of_kernels_before_5_11(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel_checks.memlock().level is Level.OK
    asked = []

    def limits(soft: int, hard: int) -> bool:
        asked.append((soft, hard))
        return True

    monkeypatch.setattr(kernel_checks, "_limits_maps", limits)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64 << 10, 64 << 10))
    found = kernel_checks.memlock()
    assert (found.level, found.fix) == (Level.WARNING, ("ulimit -l unlimited",))
    assert "65,536 bytes" in found.text
    monkeypatch.setattr(resource, "getrlimit", lambda _: (-1, -1))
    assert kernel_checks.memlock().level is Level.OK
    assert len(asked) == 2


def test_asking_about_the_memory_limit_leaves_it_as_it_was() -> None:
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    kernel_checks.memlock()
    assert resource.getrlimit(resource.RLIMIT_MEMLOCK) == before


@pytest.mark.parametrize(
    ("row", "check", "value"),
    [
        ("00010000 00000005 00000000", "backlog", 10_000),
        ("00010000 00000000 00001000", "budget", 600),
    ],
)
def test_drops_and_cut_rounds(tmp_path: "object", row: str, check: str, value: int) -> None:
    from pathlib import Path

    directory = Path(str(tmp_path))
    names = {"backlog": "netdev_max_backlog", "budget": "netdev_budget"}
    (directory / "netdev_max_backlog").write_text("1000\n")
    (directory / "netdev_budget").write_text("300\n")
    stat = directory / "softnet_stat"
    stat.write_text(f"{row} 00000000\n00000001 00000000 00000000 00000000\n")
    found = {one.check: one for one in network.checks(directory, stat)}
    assert found[check].level is Level.WARNING
    assert found[check].fix == (f"sysctl -w net.core.{names[check]}={value}",)
    assert sum(one.level is Level.WARNING for one in found.values()) == 1
    (directory / names[check]).write_text(f"{value}\n")
    assert all(one.level is Level.OK for one in network.checks(directory, stat))
