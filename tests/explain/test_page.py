"""docs/why-not-load.md is what the catalogue says, and the catalogue is fit to be read."""

import re
from pathlib import Path

import pytest

from netbpf.explain.catalogue import ENTRIES, Entry
from netbpf.explain.page import page

PAGE = Path(__file__).parents[2] / "docs" / "why-not-load.md"


def test_the_page_is_made_of_the_catalogue() -> None:
    assert PAGE.read_text() == page(), "python -m netbpf.explain.page > docs/why-not-load.md"


def test_the_page_has_every_entry() -> None:
    text = PAGE.read_text()
    assert all(f"`{entry.id}`" in text for entry in ENTRIES)
    assert len(ENTRIES) >= 40


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_an_entry_is_whole(entry: Entry) -> None:
    assert re.search(entry.pattern, entry.words, re.MULTILINE), "the sample fits the pattern"
    assert re.fullmatch(r"[a-z0-9-]+", entry.id)
    assert entry.title[0].isupper()
    assert not entry.title.endswith(".")
    # The reason follows a colon, the advice a semicolon.
    for part in (entry.reason, entry.advice):
        assert part
        assert not part.endswith(".")
        assert "\n" not in part
    assert entry.why.endswith(".")
    assert entry.code
    assert len(entry.code.splitlines()) <= 7
    assert all(len(line) <= 120 for line in entry.code.splitlines())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_brackets_of_the_code_match(entry: Entry) -> None:
    code = re.sub(r'"[^"]*"|/\*.*?\*/', "", entry.code)
    for opening, closing in ("()", "[]"):
        assert code.count(opening) == code.count(closing)
