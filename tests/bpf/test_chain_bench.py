"""The lines of ``make bench`` about chains: numbers that can be, and aims that are judged by them."""

import pytest

from benchmarks import chain


@pytest.mark.serial
def test_a_short_run() -> None:
    aims: dict[str, bool] = {}

    def add(line: str, aim: str, met: bool) -> str:
        aims[f"{line}: {aim}"] = met
        return f"aim {aim}"

    text, found = chain.measure(1, add)
    names = ["chain: nothing", "chain: filters", "chain: tenth member"]
    assert [one["name"] for one in found] == names
    for one in found[:2]:
        for contestant in one["contestants"]:
            assert set(contestant["ns"]) == {"1", "2", "5", "10", "32"}
            assert all(0 < ns < 1e6 for times in contestant["ns"].values() for ns in times)
    assert len(aims) == 3
    assert "members alone" in text


def test_what_a_member_costs() -> None:
    bare = chain.Row("bare calls", {1: [6, 6], 2: [7, 7], 5: [0, 0], 10: [0, 0], 32: [37, 68]})
    assert bare.each() == [1, 2]
    met: list[bool] = []

    def add(line: str, aim: str, judged: bool) -> str:
        met.append(judged)
        return ""

    slow = chain.Row("netbpf, called", {1: [6, 6], 32: [6 + 31 * 1.2, 6 + 31 * 2.4]})
    chain._aims({"bare calls": bare, "netbpf, called": slow, "netbpf": bare}, add)
    assert met == [False, True]
