"""``netbpf test``: what people and CI servers see."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.cli.lab import run_cli
from tests.packets.run_sources import CHANGING, built

CASES = """
object = "prog.o"
set = { what = 1 }

[[case]]
name = "a hop is taken off"
packet = "IP(ttl=64)/UDP()"
output = { IP.ttl = 63 }

[[case]]
name = "it goes back"
packet = "IP()/UDP()"
verdict = "tx"
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prog.o").write_bytes(built(CHANGING))
    Path("cases.toml").write_text(CASES)
    Path("bad.toml").write_text(CASES.replace("63", "62"))


def test_cases_that_hold_are_one_line() -> None:
    done = run_cli("test", "cases.toml")
    assert (done.code, done.err) == (0, "")
    assert done.lines[0] == "cases.toml"
    assert done.lines[1].startswith("2 cases, 2 passed; ")
    assert len(done.lines) == 2


def test_v_names_them() -> None:
    done = run_cli("test", "cases.toml", "-v")
    assert done.lines[1:3] == ["  ok    a hop is taken off", "  ok    it goes back"]


def test_a_case_that_fails_shows_the_difference_and_how_to_run_it_again() -> None:
    done = run_cli("test", "bad.toml", "cases.toml")
    assert done.code == 1
    assert done.lines[:5] == [
        "bad.toml",
        "  FAIL  a hop is taken off",
        "        output: the packet came out otherwise than expected",
        "          IP.ttl     expected 62      got 63",
        "          IP.chksum  expected 0xf8cc  got 0xf7cc",
    ]
    assert "        line 5; again: netbpf test bad.toml -k 'a hop is taken off'" in done.lines
    assert done.lines[-1].startswith("4 cases, 3 passed, 1 failed; ")


def test_k_chooses() -> None:
    done = run_cli("test", "bad.toml", "-k", "IT GOES")
    assert done.code == 0
    assert done.lines[-1].startswith("1 case, 1 passed, 1 not chosen; ")


def test_another_object_is_tested_with_the_same_cases() -> None:
    done = run_cli("test", "cases.toml", "--object", "builtin:xdp_count")
    assert done.code == 2
    assert "cases.toml:3: builtin:xdp_count" in done.err or "no variable" in done.err


def test_json_is_one_object() -> None:
    done = run_cli("test", "bad.toml", "--json")
    assert done.code == 1
    content = json.loads(done.out)
    assert content["schema"] == "netbpf.test/1"
    assert (content["passed"], content["failed"], content["errors"]) == (1, 1, 0)
    [failed, passed] = content["cases"]
    assert (failed["outcome"], passed["outcome"]) == ("failed", "passed")
    [failure] = failed["failures"]
    assert failure["kind"] == "output"
    assert failure["got"] == failed["packets"][0]["after"]


def test_junit_is_written_also_when_a_case_fails() -> None:
    assert run_cli("test", "bad.toml", "--junit", "out.xml").code == 1
    root = ET.parse("out.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("2", "1")


def test_the_packets_of_failed_cases_can_be_run_again() -> None:
    assert run_cli("test", "bad.toml", "-w", "failed.pcapng").code == 1
    done = run_cli("run", "prog.o", "failed.pcapng", "--set", "what=1")
    assert done.code == 0
    assert "  IP.ttl     64      63" in done.lines


def test_a_file_that_is_wrong_ends_with_2_and_its_line() -> None:
    Path("wrong.toml").write_text(CASES.replace('verdict = "tx"', 'verdict = "txx"'))
    done = run_cli("test", "cases.toml", "wrong.toml")
    assert done.code == 2
    assert "netbpf: error: wrong.toml:13: 'txx' is no verdict of xdp; did you mean tx?" in done.err
    Path("wrong.toml").write_text(CASES.replace("UDP", "UPD"))
    done = run_cli("test", "wrong.toml")
    assert done.code == 2
    assert "  IP(ttl=64)/UPD()\n             ^^^\n" in done.err


def test_what_cannot_be_written_is_an_error() -> None:
    done = run_cli("test", "cases.toml", "--junit", "no/such/directory.xml")
    assert done.code == 1
    assert "cannot write no/such/directory.xml: No such file or directory" in done.err
