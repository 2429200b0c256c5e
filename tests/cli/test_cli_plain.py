"""Command lines that need no click do what click would have done with them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netbpf._sys import bpf as sys_bpf
from netbpf.bpf.map import Map
from netbpf.cli import main, plain
from netbpf.constants import MapType
from tests.cli.lab import Done, run_cli
from tests.support.compiling import compile_object

OWN = f"nb_plain_{os.getpid() % 100_000}"


@pytest.fixture
def held() -> Iterator[Map]:
    with Map(sys_bpf.map_create(MapType.HASH, 4, 8, 4, name=OWN)) as one:
        one.update(bytes(4), bytes(8))
        yield one


def own_lines(done: Done) -> list[str]:
    if done.out.startswith("{"):
        found = json.loads(done.out)
        maps = [one for one in found.get("maps", ()) if one["name"] == OWN]
        return [json.dumps({**found, "maps": maps, "programs": None, "links": None})]  # with schema
    return [line for line in done.lines if OWN in line]


@pytest.mark.serial  # who holds a map is part of it, and whoever lists maps holds each for a moment
@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize(
    "words",
    [
        ("prog",), ("prog", "list"), ("map",), ("map", "list"), ("link",), ("link", "list"),
        ("map", "dump", "name", OWN),
    ],
)  # fmt: skip
def test_both_ways_say_the_same(
    held: Map, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], as_json: tuple[str, ...]
) -> None:
    assert plain.plain([*words, *as_json]) is not None
    quick = run_cli(*words, *as_json)
    monkeypatch.setattr(main, "plain", lambda _: None)
    clicked = run_cli(*words, *as_json)
    assert quick.code == clicked.code == 0
    assert own_lines(quick) == own_lines(clicked)
    assert quick.out.startswith("{") == clicked.out.startswith("{") == bool(as_json)
    assert quick.err == clicked.err == ""


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
def test_inspect_says_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, as_json: tuple[str, ...]
) -> None:
    path = tmp_path / "maps.o"
    path.write_bytes(compile_object("maps"))
    quick = run_cli("inspect", path, *as_json)
    monkeypatch.setattr(main, "plain", lambda _: None)
    assert quick == run_cli("inspect", path, *as_json)
    assert quick.code == 0


def test_what_fails_fails_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [("inspect", "/nowhere.o", "--json"), ("map", "dump", "id", "4294967295", "--json")]
    quick = [run_cli(*words) for words in lines]
    monkeypatch.setattr(main, "plain", lambda _: None)
    assert quick == [run_cli(*words) for words in lines]
    assert all(done.code for done in quick)


@pytest.mark.parametrize(
    "line",
    [
        "", "--json", "--json prog", "-h", "prog -h", "prog --all-netns", "prog show 1", "prog lst", "map dump",
        "map dump 1 --limit 3", "inspect", "inspect a b", "inspect -S a", "link list 1", "prog list list",
        "map --json list", "map --json dump 1", "prog --json --json list", "link --json list",
    ],
)  # fmt: skip
def test_all_else_is_for_click(line: str) -> None:
    assert plain.plain(line.split()) is None
