"""``--help``: short, complete, and quick."""

import re
import subprocess
import sys

import pytest

from netbpf.cli.main import COMMANDS
from tests.cli.lab import ROOT, run_cli

OPTIONS = {
    "attach": "--confirm --try --program --mode --ingress --egress --set --replace --link --atomic --priority "
    "--proceed-on --name --pref --pin-maps -I -D "
    "--frontend --netns --json --lock-timeout native skb hw auto builtin:NAME",
    "chain": "set xdp tc --ingress --egress --priority --proceed-on --watch --count --netns --json --lock-timeout",
    "upgrade": "xdp tc IFACE MEMBER OBJECT --program --set --reset --dry-run -I -D --frontend --clang --confirm --try "
    "--ingress --egress --netns --json --lock-timeout",
    "rollback": "xdp tc IFACE MEMBER --reset --dry-run --confirm --try --netns --json --lock-timeout",
    "run": "--packet --hex --number --program --hook --set --map-size --repeat --ifindex --rx-queue --meta --mark "
    "--priority --cb --protocol -I -D --frontend --clang --btf --netns --json --coverage --coverage-html "
    "--coverage-lcov --coverage-data",
    "replay": "--on --program --write --dropped --hook --set -I -D --frontend --clang --btf --limit --samples "
    "--coverage --coverage-html --coverage-lcov --coverage-data --netns --json",
    "explain": "IFACE FILE --packet --hex --frame --number --limit --ingress --egress --netns --json --verbose",
    "send": "IFACE CAPTURE --packet --hex --count --loop --rate --speed --xdp --batch --qdisc-bypass --sequence "
    "--expect --expect-netns --wait --netns --json",
    "diff": "OLD NEW CAPTURE --program --new-program --ignore --write --hook --set -I -D --frontend --clang --btf "
    "--limit --samples --json",
    "test": "FILE --junit --coverage --coverage-html --coverage-lcov --coverage-data --json",
    "inspect": "OBJECT --source --headers --opcodes --json",
    "prog": "list show dump",
    "map": "list show dump lookup update delete pin",
    "link": "list",
    "events": "IFACE MAP --count --type --hex --take --scale --every --netns --json",
    "trace": "IFACE --count --program --netns --json",
    "btf": "list dump",
    "load": "OBJECT --program --pin --type --set --map-size --tail-call --share --map --pin-maps -I -D --frontend "
    "--clang --btf --log --lock-timeout --netns --json",
    "unload": "--all --ignore-missing --lock-timeout --netns --json",
    "doctor": "IFACE --repair --netns --json",
    "features": "--programs --maps --helpers --kfuncs --attach --misc --has --json",
    "confirm": "IFACE xdp tc --ingress --egress --all --undo --netns --json --lock-timeout",
    "detach": "xdp tc MEMBER --confirm --try --ingress --egress --all --force --ignore-missing --id --netns "
    "--json --lock-timeout",
    "status": "--all-netns --netns --json",
    "stats": "--watch --count --all --netns --json",
    "capture": "IFACE FILTER --ingress --egress --write --verdict --member --count --snaplen --buffer --mode native "
    "skb --lock-timeout --json --netns --verbose",
    "monitor": "IFACE --all-netns --drops programs all none --interval --count --duration --netns --json",
    "get": "--hook --netns --json",
    "set": "--hook --netns --json",
    "compile": "--output -I -D --frontend --clang --json bcc",
}


def test_every_command_is_covered_here() -> None:
    assert set(OPTIONS) == set(COMMANDS)


@pytest.mark.parametrize("command", OPTIONS)
def test_a_command(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = run_cli(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: netbpf {command} ")
    words = set(re.findall(r"[\w:.-]+", done.out))
    assert set(OPTIONS[command].split()) <= words
    assert all(len(line) <= 100 for line in done.lines)
    assert run_cli(command, "-h").out == done.out
    # Every option says what it is for.
    for line in done.out.partition("Options:")[2].splitlines():
        assert not re.fullmatch(r"  -[\w, -]+", line.rstrip()) or len(line) > 30, line


def test_the_overview() -> None:
    done = run_cli("--help")
    assert done.code == 0
    for command, (_, text) in COMMANDS.items():
        assert re.search(rf"^  {command} +{re.escape(text)}$", done.out, re.MULTILINE)
    bare = run_cli()
    assert (bare.code, bare.out) == (2, "")
    assert bare.err == done.out


def test_the_version() -> None:
    from netbpf import __version__

    assert run_cli("--version").out == f"netbpf {__version__}\n"


def test_help_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "netbpf", "--help"], cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in loaded
    assert not loaded & {
        "rich",
        "pyroute2",
        "scapy",
        "ctypes",
        "asyncio",
        "json",
        "netbpf.api",
        "netbpf._sys.bpf",
    }
