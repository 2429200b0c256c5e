"""Each source in sources/ is refused by this kernel, and explained as its head says."""

from pathlib import Path

import pytest

from netbpf.errors import NotSupportedError
from netbpf.explain import explain
from tests.explain.rejecting import ALL, SOURCES, Expected, cached, compiled, expected, refusal
from tests.support.compiling import CLANGS

pytestmark = pytest.mark.root


@pytest.fixture(scope="session")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rejected")


# The loader names a missing field itself; see below.
REFUSED = [one for one in ALL.values() if one.reason != "core-missing"]


@pytest.mark.parametrize("one", REFUSED, ids=lambda one: one.name)
def test_a_rejection_explains_itself(one: Expected, objects: Path) -> None:
    error = cached(one.name, objects)
    found = explain(error)
    assert found.id == one.reason, (found.words, found.reason)
    for word in one.words:
        assert word in f"{found.reason}; {found.advice}"
    assert found.excerpt is None if one.line is None else found.excerpt is not None
    if found.excerpt:
        assert found.excerpt.place.line == one.line
        assert found.excerpt.place.file.endswith(f"{one.name}.bpf.c")
        source = one.path.read_text().split("\n")
        assert all(source[number - 1] == text for number, text in found.excerpt.lines)
        assert one.line in {number for number, _ in found.excerpt.lines}
        assert len(found.excerpt.lines) >= 4


@pytest.mark.parametrize("one", REFUSED, ids=lambda one: one.name)
def test_the_error_is_one_line_with_the_plain_reason(one: Expected, objects: Path) -> None:
    error = cached(one.name, objects)
    found = explain(error)
    where = f" ({one.name}.bpf.c:{one.line})" if one.line else ""
    assert (
        error.message
        == f"the verifier rejects program prog of {one.name}.bpf.o: {found.reason}{where}"
    )
    assert "\n" not in error.message + found.reason + found.advice
    assert "{" not in found.reason + found.advice
    assert found.words, "the verifier's own words are kept"


def test_there_are_enough_of_them() -> None:
    assert len(REFUSED) >= 90
    assert len({one.reason for one in REFUSED}) >= 60


def test_a_missing_field_is_named(objects: Path) -> None:
    one = ALL["core_poisoned"]
    with pytest.raises(NotSupportedError, match=r"struct net_device\.no_such_field"):
        refusal(compiled(one, objects), one.hook)


# Another compiler orders instructions otherwise, and may optimise what is wrong into something else that is wrong.
@pytest.mark.parametrize(
    "name",
    [
        "packet_unchecked", "packet_off_by_one", "packet_short_check", "packet_stale_adjust_head",
        "packet_stale_skb", "map_value_null", "map_value_variable", "ringbuf_leak", "socket_leak",
        "double_release", "spin_lock_kept", "helper_wrong_type", "ctx_read_only", "stack_frames",
    ],
)  # fmt: skip
def test_with_another_compiler(name: str, tmp_path: Path) -> None:
    one = ALL[name]
    found = explain(cached(name, tmp_path, clang=CLANGS[-1]))
    assert found.id == one.reason
    if one.line:
        assert found.excerpt is not None
        assert found.excerpt.place.line == one.line


@pytest.mark.parametrize(
    "one", [one for one in REFUSED if not one.capabilities], ids=lambda one: one.name
)
def test_without_line_info_the_reason_stays(one: Expected, tmp_path: Path) -> None:
    error = refusal(compiled(one, tmp_path), one.hook, lines=False)
    found = explain(error)
    assert found.id == one.reason, found.words
    assert found.excerpt is None
    assert ".bpf.c" not in error.message
    if found.insn is not None and found.id not in ("jump-outside", "unreachable"):
        assert found.insn_text.startswith("("), "the instruction as the verifier disassembles it"


# --- the story ---


def story(name: str, objects: Path) -> list[str]:
    found = explain(cached(name, objects))
    return [
        f"{one.subject} {one.what} {one.place.line if one.place else '-'}" for one in found.trace
    ]


def test_the_story_of_a_packet_pointer_that_is_stale(objects: Path) -> None:
    assert story("packet_stale_adjust_head", objects) == [
        "r7 a pointer into the packet 9",
        "then bpf_xdp_adjust_head() invalidates it 13",
    ]


def test_the_story_goes_through_the_function_that_moved_the_packet(objects: Path) -> None:
    assert story("packet_stale_subprogram", objects)[-1] == "then widen() invalidates it 18"


def test_the_story_of_an_offset(objects: Path) -> None:
    assert story("packet_variable_offset", objects) == [
        "r1 a pointer into the packet 9",
        "r1 a pointer into the packet at byte 14 10",
        "r2 a number from 0 to 1020 15",
        "r2 a number from 0 to 60 15",
        "r1 a pointer into the packet at byte 14 plus up to 60; nothing of it compared with data_end 15",
    ]


def test_the_story_of_an_index(objects: Path) -> None:
    assert story("map_value_variable", objects) == [
        "r0 a value of map values (16 bytes) 12",
        "r6 a number of 32 bits, not bounded further 11",
        "r0 a value of map values (16 bytes) at byte 0 plus up to 4294967295 16",
    ]


def test_the_story_of_a_lookup_passes_over_copies(objects: Path) -> None:
    assert story("pointer_maybe_null_math", objects) == [
        "r1 a value of map values (16 bytes), or NULL 12"
    ]


def test_the_story_of_a_leak_is_where_it_ends(objects: Path) -> None:
    assert story("ringbuf_leak", objects) == ["end the program ends here 17"]
    assert story("throw_leak", objects) == ["end it is still held here 16"]


# --- neighbours ---


def test_a_source_that_changed_is_not_shown(tmp_path: Path) -> None:
    source = tmp_path / "packet_unchecked.bpf.c"
    text = ALL["packet_unchecked"].path.read_text().replace("reject.h", str(SOURCES / "reject.h"))
    source.write_text(text)
    one = expected(source)
    error = refusal(compiled(one, tmp_path), one.hook)
    with_file = explain(error).excerpt
    source.write_text("/* another */\n" + text)
    changed = explain(error).excerpt
    source.unlink()
    without = explain(error).excerpt
    assert with_file is not None
    assert [number for number, _ in with_file.lines] == [8, 9, 10, 11, 12, 13]
    # What is left is what the object itself knows: lines that made code.
    assert changed == without
    assert without is not None
    assert without.place == with_file.place
    assert [number for number, _ in without.lines] == [9, 11]
