"""netbpf doctor on rights, compilers and netbpf's own state."""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.host.room import Room

pytestmark = pytest.mark.root
DOCTOR = "python -m netbpf doctor --json"


def report(text: str) -> dict[str, dict[str, Any]]:
    """The findings of ``doctor --json`` that are not ok, by check."""
    found = json.loads(text.splitlines()[-1])
    return {one["check"]: one for one in found["findings"] if one["level"] != "ok"}


# --- rights ---


@pytest.mark.parametrize(
    ("lost", "level", "code"),
    [("net_admin", "problem", 5), ("perfmon", "ok", 0), ("syslog", "warning", 0), ("net_raw", "warning", 0)],
)  # fmt: skip
def test_a_capability_that_is_missing_is_named(
    room: Room, lost: str, level: str, code: int
) -> None:
    """CAP_SYS_ADMIN stands in for CAP_PERFMON, so its loss alone is none."""
    ended, out, err = room.ended(f"setpriv --bounding-set=-{lost} --inh-caps=-{lost} {DOCTOR}")
    assert ended == code, err
    found = [one for one in json.loads(out)["findings"] if one["check"] == "capabilities"]
    lines = [one for one in found if f"CAP_{lost.upper()} is missing" in one["text"]]
    assert [one["level"] for one in lines] == ([] if level == "ok" else [level])
    assert "CAP_BPF" in found[0]["text"]


def test_without_any_right_each_reason_is_told_and_nothing_fails(room: Room) -> None:
    ended, out, err = room.ended(
        f"setpriv --reuid=65534 --clear-groups --inh-caps=-all --bounding-set=-all {DOCTOR}"
    )
    assert (ended, err) == (5, "")
    found = report(out)
    assert "refuses a program" in found["kernel"]["text"]
    assert found["capabilities"]["level"] in ("problem", "warning")


def test_a_user_namespace_is_named(room: Room) -> None:
    ended, out, _ = room.ended(f"unshare --user --map-root-user {DOCTOR}")
    assert ended == 5
    assert "user namespace" in report(out)["restriction"]["text"]


# --- compilers ---


def test_compilers_that_are_there(room: Room) -> None:
    found = {one["check"]: one for one in room.check("tools.checks")}
    assert {one["level"] for one in found.values()} == {"ok"}
    assert "target bpf" in found["clang"]["text"]
    assert "/usr/bin/python3" in found["BCC"]["text"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "clang is not installed"),
        ("echo Debian clang version 11.0.1-2", "is clang 11"),
        ("case $1 in --version) echo clang version 19.1.0;; *) echo '  x86 - x';; esac", "no target bpf"),
        ("exit 1", "does not tell its version"),
    ],
)  # fmt: skip
def test_a_clang_that_does_not_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, words: str
) -> None:
    from netbpf.host import tools

    (tmp_path / "apt").symlink_to("/usr/bin/apt")
    if script is not None:
        (tmp_path / "clang").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "clang").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = tools.clang()
    assert (found.level, found.fix) == ("warning", ("apt install clang",))
    assert words in found.text


def test_the_package_manager_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from netbpf.host import tools

    (tmp_path / "dnf").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert tools.install("libbpf-dev", "libbpf-devel") == "dnf install libbpf-devel"


@pytest.mark.parametrize(
    ("hidden", "check", "package", "file"),
    [
        ("/usr/include/bpf", "libbpf headers", "libbpf-dev", "/usr/include/bpf/bpf_helpers.h"),
        ("/usr/lib/python3/dist-packages/bcc", "BCC", "python3-bpfcc",
         "/usr/lib/python3/dist-packages/bcc/__init__.py"),
    ],
)  # fmt: skip
def test_what_is_not_installed_names_the_package_that_has_it(
    room: Room, hidden: str, check: str, package: str, file: str
) -> None:
    assert f"{package}:" in room.sh(f"dpkg -S {file}").replace(":amd64", "")
    room.sh(f"mount -t tmpfs tmpfs {hidden}")
    found = room.one("tools.checks", check)
    room.sh(f"umount {hidden}")
    assert (found["level"], found["fix"]) == ("warning", [f"apt install {package}"])


def test_kernel_headers_for_bcc(room: Room) -> None:
    room.sh("mount -t tmpfs tmpfs /usr/src; mount -t tmpfs tmpfs /lib/modules")
    found = room.one("tools.checks", "BCC kernel headers")
    room.sh("umount /usr/src /lib/modules")
    assert found["level"] == "warning"
    assert found["fix"][0].startswith("apt install linux-headers-")


def test_no_bcc_and_no_bpftool_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from netbpf.host import tools

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("NETBPF_LIBBCC", str(tmp_path / "nothing"))
    assert (tools.bcc().level, tools.bcc_headers()) == ("warning", [])
    assert (tools.bpftool().level, tools.bpftool().text) == (
        "ok",
        "not installed; nothing needs it",
    )


# --- netbpf's own state ---


def cured(room: Room, check: str, broken: dict[str, Any]) -> None:
    for command in broken["fix"]:
        room.sh(command)
    assert broken["fix"]
    assert room.one(check, broken["check"])["level"] == "ok"


def lost(room: Room) -> dict[str, Any]:
    """What is left over, once the kernel has let go of the program: it does so a moment after its interface."""
    end = time.monotonic() + 60
    while (found := room.one("leftovers.stale"))["level"] == "ok":
        assert time.monotonic() < end
    return found


def test_records_of_what_is_gone(room: Room) -> None:
    room.sh(
        "ip link add gone0 type veth peer name gone1 && netbpf attach xdp gone0 builtin:xdp_count"
    )
    assert room.one("leftovers.stale")["level"] == "ok"
    room.sh("ip link del gone0")
    found = lost(room)
    assert (found["level"], "1 record" in found["text"], "gone0" in found["text"]) == (
        "warning",
        True,
        True,
    )
    cured(room, "leftovers.stale", found)


def test_pins_of_what_is_gone(room: Room) -> None:
    room.sh(
        "ip link add gone0 type veth peer name gone1 && netbpf attach xdp gone0 builtin:xdp_count --link"
    )
    room.sh("ip link del gone0")
    found = lost(room)
    assert (found["level"], "1 pin" in found["text"]) == ("warning", True)
    cured(room, "leftovers.stale", found)
    assert room.sh("find /sys/fs/bpf/netbpf -type f") == ""


def test_a_change_that_waits(room: Room) -> None:
    room.sh(
        "ip link add wait0 type veth peer name wait1 && netbpf attach xdp wait0 builtin:xdp_count --confirm 1h"
    )
    found = room.one("leftovers.changes")
    assert (found["level"], "wait0 xdp" in found["text"]) == ("warning", True)
    cured(room, "leftovers.changes", found)
    room.sh("netbpf detach xdp wait0; ip link del wait0")


def test_a_change_whose_watcher_was_killed(room: Room) -> None:
    room.sh(
        "ip link add wait0 type veth peer name wait1 && netbpf attach xdp wait0 builtin:xdp_count --confirm 1h"
    )
    [name] = room.sh("ls /run/netbpf/pending").split()
    pid = name.split("-")[0]
    room.sh(
        f"kill -9 {pid}; while [ -e /proc/{pid} ] && ! grep -q State:.Z /proc/{pid}/status; do sleep 0.02; done"
    )
    found = room.one("leftovers.changes")
    assert (found["level"], "is gone" in found["text"]) == ("problem", True)
    cured(room, "leftovers.changes", found)
    assert "xdp" not in room.sh("ip link show wait0")
    room.sh("ip link del wait0")


def test_a_state_directory_that_others_can_write_to(room: Room) -> None:
    assert room.one("leftovers.directory")["level"] == "ok"
    room.sh("chmod 777 /run/netbpf")
    found = room.one("leftovers.directory")
    assert (found["level"], "mode 777" in found["text"]) == ("problem", True)
    cured(room, "leftovers.directory", found)


def test_a_state_directory_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from netbpf.host import leftovers

    path = tmp_path / "state"
    path.write_text("")
    monkeypatch.setenv("NETBPF_STATE_DIR", str(path))
    found = leftovers.directory()
    assert (found.level, found.fix) == ("problem", (f"rm {path}",))
    subprocess.run(found.fix[0].split(), check=True)
    assert leftovers.directory().level == "ok"
    path.mkdir()
    shutil.chown(path, 65534)
    assert "belongs to user 65534" in leftovers.directory().text
    os.chmod(path, 0o700)  # noqa: PTH101
