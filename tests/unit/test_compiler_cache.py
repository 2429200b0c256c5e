"""The cache of compiled sources: a hit runs no compiler, and whatever an object depends on makes a miss."""

import json
import os
import stat
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from netbpf.compiler import Options, cached_object, compile_source
from netbpf.compiler.cache import MAX_ENTRIES, cache_directory
from netbpf.compiler.toolchain import find_clang
from netbpf.errors import CompileError, NetbpfError

SOURCE = """\
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "verdict.h"
SEC("xdp") int prog(struct xdp_md *ctx) { return VERDICT; }
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source, a header that is some time old, and an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETBPF_CACHE_DIR", str(tmp_path / "cache"))
    Path("prog.bpf.c").write_text(SOURCE)
    header("verdict.h", "XDP_PASS")
    return tmp_path / "cache"


def header(name: str, verdict: str) -> None:
    Path(name).write_text(f"#define VERDICT {verdict}\n")


def forbid_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a compiler that is started is a failure."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a compiler was started")

    monkeypatch.setattr("subprocess.Popen", refuse)


def test_a_second_time_is_a_hit_and_starts_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    first = cached_object("prog.bpf.c")
    assert not first.cached
    assert first.output.read_bytes() == compile_source("prog.bpf.c").output.read_bytes()
    forbid_compilers(monkeypatch)
    second = cached_object("prog.bpf.c")
    assert second.cached
    assert (second.output, second.size, second.compiler) == (
        first.output,
        first.size,
        first.compiler,
    )


def test_a_hit_does_not_even_load_what_runs_compilers() -> None:
    cached_object("prog.bpf.c")
    code = (
        "import sys; from netbpf.compiler import cached_object; assert cached_object('prog.bpf.c').cached;"
        "print('subprocess' in sys.modules)"
    )
    read, write = os.pipe()
    pid = os.posix_spawn(
        sys.executable, [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)],
    )  # fmt: skip
    os.close(write)
    with open(read) as output:
        assert output.read() == "False\n"
    assert os.waitpid(pid, 0)[1] == 0


def test_a_changed_source_is_compiled_again() -> None:
    old = cached_object("prog.bpf.c").output.read_bytes()
    Path("prog.bpf.c").write_text(SOURCE.replace("VERDICT;", "XDP_ABORTED;"))
    assert cached_object("prog.bpf.c").output.read_bytes() != old


@pytest.mark.parametrize("age", [0, 3600])
def test_a_changed_header_is_compiled_again_even_with_the_same_size_and_time(age: int) -> None:
    when = time.time() - age
    os.utime("verdict.h", (when, when))
    cached_object("prog.bpf.c")
    before = Path("verdict.h").stat()
    header("verdict.h", "XDP_DROP")
    os.utime("verdict.h", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Path("verdict.h").stat().st_size == before.st_size
    assert not cached_object("prog.bpf.c").cached


def test_a_header_that_was_only_touched_is_a_hit() -> None:
    cached_object("prog.bpf.c")
    os.utime("verdict.h")
    assert cached_object("prog.bpf.c").cached


def test_a_new_header_that_hides_another_is_compiled_again(tmp_path: Path) -> None:
    Path("verdict.h").unlink()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    header("second/verdict.h", "XDP_PASS")
    options = Options(include_dirs=("first", "second"))
    old = cached_object("prog.bpf.c", options)
    assert cached_object("prog.bpf.c", options).cached
    header("first/verdict.h", "XDP_DROP")
    new = cached_object("prog.bpf.c", options)
    assert not new.cached
    assert new.output == old.output


def test_a_header_that_is_gone_is_the_compilers_error() -> None:
    cached_object("prog.bpf.c")
    Path("verdict.h").unlink()
    with pytest.raises(CompileError) as caught:
        cached_object("prog.bpf.c")
    assert "'verdict.h' file not found" in caught.value.output


def test_flags_and_compilers_have_objects_of_their_own(tmp_path: Path) -> None:
    wrapper = tmp_path / "clang-wrapper"
    wrapper.write_text(f'#!/bin/sh\nexec {find_clang()} "$@"\n')
    wrapper.chmod(0o755)
    variants = (
        Options(), Options(defines=("X=1",)), Options(defines=("X=2",)), Options(include_dirs=("/usr/include",)),
        Options(clang=str(wrapper)),
    )  # fmt: skip
    assert len({cached_object("prog.bpf.c", options).output for options in variants}) == len(
        variants
    )
    assert all(cached_object("prog.bpf.c", options).cached for options in variants)
    wrapper.write_text(f'#!/bin/sh\n# upgraded\nexec {find_clang()} "$@"\n')
    assert not cached_object("prog.bpf.c", Options(clang=str(wrapper))).cached


@pytest.mark.parametrize("damage", [b"", b"\x7fELF damaged", None])
def test_a_damaged_entry_is_compiled_again(cache: Path, damage: bytes | None) -> None:
    good = cached_object("prog.bpf.c")
    content = good.output.read_bytes()
    for path in (good.output, *cache.glob("*.json")):
        if damage is None:
            path.unlink()
        else:
            path.write_bytes(damage)
        assert not cached_object("prog.bpf.c").cached
        assert good.output.read_bytes() == content
        assert cached_object("prog.bpf.c").cached


@pytest.mark.parametrize("content", ["[]", "{}", '{"sha256": 1}', '{"files": [[1]]}', "null"])
def test_a_manifest_of_another_shape_is_no_hit(cache: Path, content: str) -> None:
    cached_object("prog.bpf.c")
    (manifest,) = cache.glob("*.json")
    manifest.write_text(content)
    assert not cached_object("prog.bpf.c").cached


def test_a_source_that_does_not_compile_leaves_nothing(cache: Path) -> None:
    Path("prog.bpf.c").write_text("nonsense\n")
    for _ in range(2):
        with pytest.raises(CompileError, match="does not compile"):
            cached_object("prog.bpf.c")
    assert list(cache.iterdir()) == []


def test_a_name_that_a_make_rule_cannot_hold_still_compiles() -> None:
    Path("new\nline.c").write_text(SOURCE)
    assert not cached_object("new\nline.c").cached
    assert cached_object("new\nline.c").output.exists()


def test_many_at_once_all_get_a_whole_object() -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(
            pool.map(lambda _: cached_object("prog.bpf.c").output.read_bytes(), range(16))
        )
    assert set(results) == {compile_source("prog.bpf.c").output.read_bytes()}


def test_the_longest_unused_entries_make_room(cache: Path) -> None:
    kept = cached_object("prog.bpf.c")
    for number in range(MAX_ENTRIES + 20):
        for suffix in ("o", "json"):
            path = cache / f"{number:040x}.{suffix}"
            path.write_bytes(b"x")
            os.utime(path, (number, number))
    killed = cache / ".netbpf-of-a-writer-that-was-killed"
    killed.write_bytes(b"x")
    os.utime(killed, (1, 1))
    new = cached_object("prog.bpf.c", Options(defines=("X",)))
    left = {path.stem for path in cache.glob("*.o")}
    assert len(left) == MAX_ENTRIES
    assert {kept.output.stem, new.output.stem} <= left
    assert f"{0:040x}" not in left
    assert f"{MAX_ENTRIES + 19:040x}" in left
    assert {path.stem for path in cache.glob("*.json")} == left
    assert not killed.exists()


# ------------------------------------------------------------------------------------------- the directory


def test_the_cache_is_private(cache: Path) -> None:
    old = os.umask(0)
    try:
        cached_object("prog.bpf.c")
    finally:
        os.umask(old)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in cache.iterdir()} == {0o600}
    assert json.loads(next(cache.glob("*.json")).read_text())["source"] == "prog.bpf.c"


def test_a_cache_that_is_open_to_others_is_refused(cache: Path) -> None:
    cache.mkdir(mode=0o700)
    cache.chmod(0o750)
    with pytest.raises(NetbpfError, match=r"is open to others \(mode 0750\)") as caught:
        cached_object("prog.bpf.c")
    assert f"chmod 700 {cache}" in str(caught.value.hint)
    assert list(cache.iterdir()) == []


def test_a_cache_behind_a_symbolic_link_is_refused(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    cache.symlink_to("theirs")
    with pytest.raises(NetbpfError, match="is a symbolic link, and is not used"):
        cached_object("prog.bpf.c")
    assert list((tmp_path / "theirs").iterdir()) == []


@pytest.mark.root
def test_a_cache_of_another_user_is_refused(cache: Path) -> None:
    cache.mkdir(mode=0o700)
    os.chown(cache, 12345, 12345)
    with pytest.raises(NetbpfError, match="belongs to user 12345"):
        cached_object("prog.bpf.c")


def test_a_cache_that_anyone_could_replace_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setenv("NETBPF_CACHE_DIR", str(tmp_path / "open/cache"))
    with pytest.raises(NetbpfError, match="its parent is writable by all"):
        cached_object("prog.bpf.c")
    (tmp_path / "open").chmod(0o1777)
    assert cached_object("prog.bpf.c").output.parent == tmp_path / "open/cache"


def test_a_cache_that_cannot_be_made_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("")
    monkeypatch.setenv("NETBPF_CACHE_DIR", "file/cache")
    with pytest.raises(NetbpfError, match=r"cannot use the cache .*: Not a directory") as caught:
        cached_object("prog.bpf.c")
    assert "NETBPF_CACHE_DIR" in str(caught.value.hint)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NETBPF_CACHE_DIR")
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert cache_directory() == Path("/var/cache/netbpf")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cache_directory() == Path("/home/someone/.cache/netbpf")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_directory() == Path("/elsewhere/netbpf")
    monkeypatch.setenv(
        "XDG_CACHE_HOME", "relative"
    )  # the XDG specification wants such a value ignored
    assert cache_directory() == Path("/home/someone/.cache/netbpf")
