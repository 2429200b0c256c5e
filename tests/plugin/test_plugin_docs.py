"""The example of docs/netns_fixtures.md works, word for word."""

import re
from pathlib import Path

import pytest

from netns_fixtures.kinds import GROUPS, KINDS
from netns_fixtures.requirements import WORDS

DOC = (Path(__file__).parents[2] / "docs" / "netns_fixtures.md").read_text()


def block(language: str) -> str:
    """The first code block in a language."""
    found = re.search(rf"```{language}\n(.*?)```", DOC, re.DOTALL)
    assert found
    return found[1]


@pytest.mark.requires("root", "tool:clang")
def test_the_example_works(pytester: pytest.Pytester) -> None:
    (pytester.path / "filter.bpf.c").write_text(block("c"))
    (pytester.path / "test_filter.py").write_text(block("python"))
    (pytester.path / "pytest.ini").write_text(block("ini"))
    result = pytester.runpytest_subprocess("-v", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=4)
    shown = re.findall(r"^test_filter.py::.*PASSED$", DOC, re.MULTILINE)
    assert len(shown) == 4
    result.stdout.fnmatch_lines([re.sub(r"[\[\]]", "?", line) + "*" for line in shown])


def test_every_kind_group_and_requirement_is_named() -> None:
    for word in (*KINDS, *GROUPS):
        assert f"`{word}`" in DOC
    for word in WORDS:
        assert f"`{word}`" in DOC or word in KINDS or word.startswith("CAP_")
