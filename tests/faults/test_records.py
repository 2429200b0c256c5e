"""Records are input like any other: whatever lies there, no traceback, and the kernel's truth is shown."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netbpf import NetbpfError, api
from netbpf.errors import NotManagedError
from netbpf.state import records
from netbpf.state.records import Record
from tests.faults.lab import Lab

Data = dict[str, Any]


@pytest.fixture
def record(lab: Lab) -> Path:
    """The file of an attachment that is there."""
    api.attach("xdp", "v0", "builtin:xdp_globals", mode="skb", netns=lab.namespace).close()
    (path,) = (lab.state / "hooks").iterdir()
    return path


def changed(change: Callable[[Data], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return damage


def generation(**values: object) -> Callable[[Path], None]:
    return changed(lambda data: data["generations"][0].update(values))


def member(**values: object) -> Callable[[Path], None]:
    return changed(lambda data: data["generations"][0]["members"][0].update(values))


def replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


def copied_elsewhere(path: Path) -> None:
    netns, _, hook = path.name.split("-", 2)
    path.rename(path.with_name(f"{netns}-999-{hook}"))


DAMAGES = {
    "empty": lambda path: path.write_text(""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "not-json": lambda path: path.write_bytes(b"\x7fELF\x00\xff\xfe"),
    "not-utf8": lambda path: path.write_bytes(path.read_bytes().replace(b"v0", b"\xff\xff")),
    "a-list": lambda path: path.write_text("[]"),
    "a-number": lambda path: path.write_text("1" * 5000),
    "deep": lambda path: path.write_text("[" * 200_000),
    "huge": lambda path: os.truncate(path, 1 << 40),
    "link": replaced(lambda path: path.symlink_to("/etc/passwd")),
    "link-to-itself": replaced(lambda path: path.symlink_to(path)),
    "directory": replaced(lambda path: path.mkdir()),
    "fifo": replaced(os.mkfifo),
    "other-schema": changed(lambda data: data.update(schema="netbpf.record/1")),
    "other-boot": changed(lambda data: data.update(boot="c0ffee")),
    "boot-of-another-type": changed(lambda data: data.update(boot=None)),
    "unknown-field": changed(lambda data: data.update(evil=1)),
    "missing-field": changed(lambda data: data.pop("interface")),
    "no-generations": changed(lambda data: data.update(generations=[])),
    "generations-null": changed(lambda data: data.update(generations=None)),
    "generations-text": changed(lambda data: data.update(generations="abc")),
    "hook-unknown": changed(lambda data: data.update(hook="tc")),
    "hook-list": changed(lambda data: data.update(hook=["xdp"])),
    "ifindex-text": changed(lambda data: data.update(ifindex="3")),
    "ifindex-true": changed(lambda data: data.update(ifindex=True)),
    "netns-negative": changed(lambda data: data.update(netns=-1)),
    "other-place": copied_elsewhere,
    "id-text": generation(prog_id="7"),
    "id-null": generation(prog_id=None),
    "id-large": generation(prog_id=1 << 40),
    "id-negative": generation(prog_id=-5),
    "time-infinite": generation(attached_at=float("inf")),
    "time-nan": generation(attached_at=float("nan")),
    "mode-list": generation(mode=[]),
    "members-null": generation(members=None),
    "members-none": generation(members=[]),
    "members-number": generation(members=[1]),
    "object-null": member(object=None),
    "object-number": member(object={"path": 1, "sha256": 2}),
    "priority-text": member(priority="low"),
    "slot-negative": member(slot=-1),
    "proceed-on-text": member(proceed_on="pass"),
    "maps-flat": member(maps=["counter", 7]),
    "maps-text": member(maps=[["counter", "7"]]),
    "previous-number": member(previous=3),
    "name-object": generation(name={}),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_record(lab: Lab, record: Path, damage: Callable[[Path], None]) -> None:
    """It is no record: the program is shown, but nobody says that it is netbpf's."""
    damage(record)
    (one,) = lab.status()
    assert (one.program.name, one.managed, one.object) == ("xdp_globals", False, None)
    with pytest.raises(NotManagedError):
        api.detach("v0", netns=lab.namespace)
    # The next one overwrites or removes it.
    api.detach("v0", netns=lab.namespace, force=True)
    api.attach("xdp", "v0", "builtin:xdp_globals", mode="skb", netns=lab.namespace).close()
    lab.assert_consistent()
    api.detach("v0", netns=lab.namespace)
    lab.assert_nothing_left()
    assert not list((lab.state / "hooks").iterdir())


ODD = {
    "path": member(object={"path": "\ud800\x1b[31m\n", "sha256": "../../etc/passwd"}),
    "name": generation(name="\x00\udcff" * 50, tag="\n"),
    "interface": changed(lambda data: data.update(interface="../..\x1b]0;x\x07")),
    "member": member(name="\x1b[31m\n", program="\udcff"),
    "map-large": member(maps=[["\x1b", 1 << 60]]),
    "previous": member(previous={"path": "\x1b", "sha256": "../../etc/passwd"}),
    "namespace": changed(lambda data: data.update(netns_name="$(reboot)\n")),
    "old": generation(attached_at=0),
    "in-the-future": generation(attached_at=4e9),
}


@pytest.mark.parametrize("json_output", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("damage", ODD.values(), ids=ODD)
def test_odd_words_in_a_record(
    lab: Lab, record: Path, damage: Callable[[Path], None], json_output: bool
) -> None:
    """It may be shown; it must not reach the terminal raw, nor name a file outside."""
    damage(record)
    done = lab.cli("status", *(["--json"] if json_output else []))
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert "xdp_globals" in done.stdout
    assert done.stdout.count("\n") == (1 if json_output else 2)
    done = lab.cli("detach")
    assert done.returncode == 0, done.stderr
    lab.assert_nothing_left()


def test_every_prefix_of_a_record(lab: Lab, record: Path) -> None:
    data = record.read_bytes()
    for size in range(len(data) - 1):
        record.write_bytes(data[:size])
        assert list(records.read_all()) == []
    record.write_bytes(data)
    (one,) = records.read_all()
    assert Record.from_json(one.to_json()) == one


STRAYS = [
    "objects/evil.o",
    "objects/.tmp",
    "qdiscs/x",
    "qdiscs/1-2-3",
    "hooks/readme",
    "hooks/.a.json.7",
]


def test_what_does_not_belong_there(lab: Lab, record: Path) -> None:
    """Files that nothing explains are removed, directories that are not empty left alone."""
    for name in STRAYS:
        path = lab.state / name
        path.parent.mkdir(exist_ok=True, mode=0o700)
        path.write_text("x")
    (lab.state / "hooks" / "full").mkdir()
    (lab.state / "hooks" / "full" / "file").write_text("x")
    assert [one.managed for one in lab.status()] == [True]
    api.detach("v0", netns=lab.namespace)
    assert lab.files() == ["hooks/full/file"]


# --- the directory itself ---


def of_nobody(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, 65534, 65534)


def a_link(path: Path) -> None:
    path.with_name("elsewhere").mkdir()
    path.symlink_to(path.with_name("elsewhere"))


def of_everybody(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


BAD_PLACES: dict[str, Callable[[Path], object]] = {
    "a link": a_link,
    "not a directory": lambda path: path.write_text(""),
    "belongs to user 65534": of_nobody,
    "others could write": of_everybody,
}


@pytest.mark.parametrize("part", [".", "hooks"])
@pytest.mark.parametrize(("words", "make"), BAD_PLACES.items(), ids=BAD_PLACES)
def test_a_state_directory_of_others(
    lab: Lab, words: str, make: Callable[[Path], object], part: str
) -> None:
    """Nothing is read from it nor written to it, and no hook is touched."""
    path = lab.state
    if part != ".":
        path.mkdir(mode=0o700)
        path /= part
    make(path)
    for command in (
        ("attach", "xdp", "v0", "builtin:xdp_globals"),
        ("status",),
        ("detach", "xdp", "v0"),
    ):
        done = lab.cli(*command)
        assert done.returncode == 1, (command, done)
        assert done.stderr.count("\n") == 1
        assert words.replace("a link", "a symbolic link") in done.stderr
    path.unlink() if not path.is_dir() or path.is_symlink() else path.rmdir()
    assert lab.status() == []


def fill(path: Path) -> None:
    """Until nothing fits any more."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while os.statvfs(path).f_bfree:
            os.write(fd, bytes(4096))
    finally:
        os.close(fd)


def test_a_full_disk(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attaching says so and attaches nothing; detaching needs no room."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,mode=0700", "none", small], check=True)
    try:
        monkeypatch.setenv("NETBPF_STATE_DIR", str(small))
        lab.state = small
        api.attach("xdp", "v0", "builtin:xdp_globals", mode="skb", netns=lab.namespace).close()
        fill(small / "filler")
        done = lab.cli("attach", "xdp", "v2", "builtin:xdp_count", "--mode", "skb")
        assert done.returncode == 1
        assert "No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        assert list(lab.on("xdp")) == ["v0"]
        assert lab.cli("detach").returncode == 0
        assert lab.status() == []
        assert lab.files() == ["filler"]
    finally:
        subprocess.run(["umount", "-l", small], check=True)


@pytest.fixture
def unwritable(tmp_path: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    where = tmp_path / "readonly"
    where.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", where], check=True)
    monkeypatch.setenv("NETBPF_STATE_DIR", str(where / "state"))
    lab.state = where / "state"
    yield where
    subprocess.run(["umount", "-l", where], check=True)


def test_nowhere_to_write(lab: Lab, unwritable: Path) -> None:
    with pytest.raises(NetbpfError, match="Read-only file system"):
        api.attach("xdp", "v0", "builtin:xdp_globals", mode="skb", netns=lab.namespace)
    assert lab.status() == []
    done = lab.cli("detach")
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr
