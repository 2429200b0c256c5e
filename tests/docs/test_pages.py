"""README and docs/: what they show is what happens, and what they name is there."""

import fcntl
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from netbpf import errors
from netbpf.cli.commands import cli
from netbpf.cli.main import COMMANDS
from tests.docs.frames import frame
from tests.docs.session import Page, Step, alone, ids, matches, parse, problems, run, translated

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS]
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_OPTION = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")


def shown(page: Path) -> str:
    return str(page.relative_to(ROOT))


# --- what the pages show ---


# Others show C and configuration, or commands whose output is not theirs to promise.
SESSIONS = [page for page in PAGES if parse(page.read_text()).steps]


@pytest.mark.root
@pytest.mark.parametrize("page", SESSIONS, ids=shown)
def test_a_page_shows_what_happens(page: Path) -> None:
    session = parse(page.read_text())
    with alone(page):
        run(session)
    found = problems(session)
    assert not found, "\n".join(found) + (
        f"\nIf the page is what is wrong: python -m tests.docs.session --update {shown(page)}"
    )


def test_the_pages_with_sessions_are_these() -> None:
    assert {shown(page) for page in SESSIONS} >= {
        "README.md",
        "docs/attach.md",
        "docs/exit-codes.md",
        "docs/json.md",
        "docs/library.md",
        "docs/status-and-stats.md",
    }


# --- links ---


def anchors(page: Path) -> set[str]:
    """As GitHub makes them: small letters, no punctuation, hyphens for blanks."""
    heads = re.findall(r"^#+ (.*)$", _FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_readme_links_every_page() -> None:
    assert {f"docs/{page.name}" for page in DOCS} <= set(links(README))


# --- exit codes ---


def classes(root: type[errors.NetbpfError]) -> Iterator[type[errors.NetbpfError]]:
    yield root
    for one in root.__subclasses__():
        yield from classes(one)


def test_exit_codes_are_those_of_the_code() -> None:
    rows = re.findall(
        r"^\| (\d+) \| (.*?) \|", (ROOT / "docs/exit-codes.md").read_text(), re.MULTILINE
    )
    documented = {int(code): set(re.findall(r"`(\w+)`", names)) for code, names in rows}
    beyond = {code for code in documented if code > 128}
    assert beyond == {130, 141}
    assert set(documented) - beyond == {int(code) for code in errors.ExitCode}
    real: dict[int, set[str]] = {int(code): set() for code in errors.ExitCode}
    for one in set(classes(errors.NetbpfError)):
        if one.__module__ == "netbpf.errors":
            real[int(one.exit_code)].add(one.__name__)
    assert {code: names for code, names in documented.items() if code not in beyond} == real


# --- options ---


def grouped() -> dict[str, list[str]]:
    """The commands that have commands of their own, and those."""
    groups = ((name, cli.get_command(click.Context(cli), name)) for name in COMMANDS)
    return {
        name: [f"{name} {one}" for one in group.commands]
        for name, group in groups
        if isinstance(group, click.Group)
    }


GROUPS = grouped()
GROUPED = [one for names in GROUPS.values() for one in names]


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """What ``--help`` of each command says."""
    texts = {}
    # Some have a second form with options of its own.
    for command in (*COMMANDS, "attach auto", "detach auto", *GROUPED):
        # A group without a command lists what there is.
        words = command.split() + (["list"] if command in GROUPS else [])
        done = subprocess.run(
            [sys.executable, "-m", "netbpf", *words, "--help"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        texts[command] = done.stdout
    return texts


def synonyms(text: str) -> list[set[str]]:
    """The options that a help text lists: each with its long and short names."""
    listed = text.partition("Options:")[2]
    heads = re.findall(r"^  (-.*?)(?:  |$)", listed, re.MULTILINE)
    return [set(_OPTION.findall(head)) for head in heads]


def options(text: str) -> set[str]:
    """All of these names."""
    return set().union(*synonyms(text))


def commands(page: Path) -> Iterator[tuple[str, set[str]]]:
    """Each ``netbpf COMMAND ...`` in code on a page, and the options in it."""
    text = page.read_text().replace("\\\n", " ")
    code = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    pieces = [line.removeprefix("# ") for block in code for line in block.splitlines()]
    pieces += re.findall(r"`([^`\n]+)`", text)
    for piece in pieces:
        names = "|".join(["attach auto", "detach auto", *GROUPED])
        match = re.match(rf"(?:netbpf )?({names}|\w+)\b(.*)", piece)
        if (
            match
            and match[1].partition(" ")[0] in COMMANDS
            and (piece.startswith("netbpf ") or " -" in piece)
        ):
            words = re.sub(r"'[^']*'|#.*|[|;].*|netbpf: .*", "", match[2])
            yield match[1], set(_OPTION.findall(words))


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_help_lists_every_option_a_page_uses(page: Path, helps: dict[str, str]) -> None:
    for command, used in commands(page):
        assert used <= options(helps[command]), f"netbpf {command}"


def test_pages_name_every_option(helps: dict[str, str]) -> None:
    text = "".join(page.read_text() for page in PAGES)
    code = _FENCED.findall(text) + re.findall(r"`[^`]+`", _FENCED.sub("", text))
    named = {option for piece in code for option in _OPTION.findall(piece)}
    unnamed = {
        (command, *sorted(names))
        for command, text in helps.items()
        for names in synonyms(text)
        if not names & {*named, "--help"}
    }
    assert not unnamed


def test_pages_name_every_command() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for command in COMMANDS:
        assert f"netbpf {command}" in text


# --- the instrument itself ---


def test_parsing() -> None:
    page = parse(
        "```console\n# one \\\n  two\nout\n\n# three\n```\n"
        "<!-- send 3 udp 53 eth0 -->\n```c\n// x.c\nint x;\n```\n```console\n# four\n```\n"
    )
    assert [step.command for step in page.steps if not step.hidden] == [
        "one   two",
        "three",
        "four",
    ]
    assert [step.hidden for step in page.steps] == [False, False, True, False]
    assert page.steps[0].expected == "out\n\n"
    assert page.files == {"x.c": "int x;\n"}


@pytest.mark.parametrize(
    ("output", "expected", "same"),
    [
        ("veth0 (program 17, map 4)", "veth0 (program 3, map 9)", True),
        ("packets 17", "packets 18", False),
        ("{packets: 3}", "{packets: 4}", False),
        ('{"id":17,"code":3}', '{"id":4,"code":3}', True),
        ('{"id":17,"code":3}', '{"id":17,"code":4}', False),
        ("eth0  xdp  17  48f5e1e9d629717b  netbpf  0s  x", "eth0 xdp 1 0000000000000000 netbpf  12s  x", True),
        ("a\nb\nc\nd", "a\n...\nd", True),
        ("a\nd", "a\n...\nd", True),
        ("a\nb\nc", "a\n...\nd", False),
        ("x\na\nd", "a\n...\nd", False),
        ("eth0 xdp: x, program 17, 1,042 runs, 188 ns each", "eth0 xdp: x, program 3", True),
        ("one", "two", False),
        ("one\ntwo", "one", False),
        ("", "", True),
        ("one", "", False),
    ],
)  # fmt: skip
def test_matching(output: str, expected: str, same: bool) -> None:
    assert matches(output, expected) is same


def test_numbers_that_differ() -> None:
    page = parse(
        "<!-- numbers differ -->\n```console\n# a\npid 7: 0x1f\n```\n```console\n# b\npid 7\n```\n"
    )
    a, b = page.steps
    assert (a.numbers_differ, b.numbers_differ) == (True, False)
    a.output, b.output = "pid 8: 0x2e\n", "pid 8\n"
    [problem] = problems(page)
    assert problem.startswith("`b`")
    a.output = "pid 8: x\n"
    assert len(problems(page)) == 2


def test_ids_of_the_page_mean_those_of_the_run() -> None:
    page = parse(
        "```console\n# echo program 123456, 0123456789abcdef\nprogram 123456, 0123456789abcdef\n```\n"
    )
    page.ids["123456"] = "777777"
    run(page)
    assert page.steps[0].output == "program 777777, 0123456789abcdef\n"
    shown, real = "map 4711 b, program 12345\n", "map 1234 b, program 9876\n"
    assert ids(shown, real) == {"4711": "1234", "12345": "9876"}
    assert ids(shown, "map 1234\n") == {}
    assert translated("show 4711 --limit 47", {"4711": "1234"}) == "show 1234 --limit 47"


def test_a_page_runs_once_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in two runs of the tests, and of another checkout; other pages run meanwhile."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with alone(Path("docs/one.md")), alone(Path("docs/two.md")):
        first, second = sorted(tmp_path.iterdir())
        for lock in (first, second):
            with lock.open() as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with alone(Path("elsewhere/one.md")):
        assert sorted(tmp_path.iterdir()) == [first, second]


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
@pytest.mark.parametrize("port", [0, 53, 65535])
def test_frames_are_those_of_scapy(protocol: str, port: int) -> None:
    from scapy.layers.inet import IP, TCP, UDP
    from scapy.layers.l2 import Ether

    macs = "02:00:00:00:00:10", "02:00:00:00:00:00"
    layer = {"udp": UDP, "tcp": TCP}[protocol](sport=4000, dport=port)
    by_scapy = Ether(src=macs[0], dst=macs[1]) / IP(src="10.0.0.7", dst="10.0.0.1") / layer
    assert frame(protocol, *macs, "10.0.0.7", "10.0.0.1", 4000, port) == bytes(by_scapy)


def test_a_session_that_ends_early_is_told() -> None:
    with pytest.raises(AssertionError, match="ended early, at `exit 3`"):
        run(parse("```console\n# exit 3\n```\n"))


def test_an_exit_code_that_no_page_speaks_of_is_a_problem() -> None:
    failed = Step("false", code=1)
    assert problems(Page(steps=[failed])) == ["`false` ended with 1: "]
    assert problems(Page(steps=[failed, Step("echo $?", "1\n", output="1\n")])) == []
    told = "netbpf: error: x\n"
    assert problems(Page(steps=[Step("netbpf", told, output=told, code=2)])) == []
