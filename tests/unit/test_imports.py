"""What each entry point may import. Start-up time is the sum of imports, and a list is exact where time is not.

A new case is a line in ``CASES``. A failure here means that a command got slower for everyone: import late what only
one path needs, or, where it is truly needed, add it to the list and say in the commit what it costs.
"""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]

# Milliseconds each, on a machine where bare Python takes 10.
HEAVY = frozenset({
    "_pytest", "asyncio", "bcc", "concurrent", "email", "http", "hypothesis", "importlib.metadata", "multiprocessing",
    "netns_fixtures", "pyroute2", "pytest", "rich", "scapy", "ssl", "unittest", "urllib",
})  # fmt: skip


class Case(NamedTuple):
    """A piece of code in a fresh interpreter, and the top-level modules it may load beyond Python's own start."""

    code: str
    allowed: frozenset[str] = frozenset()


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


ENUMS = words(
    "_collections_abc collections enum functools itertools keyword operator reprlib types"
)
# What dataclasses need: they read signatures.
DATACLASSES = ENUMS | words(
    "_ast abc ast collections contextlib copy copyreg dataclasses dis importlib inspect linecache opcode re token"
    " tokenize warnings weakref annotationlib"
)
BPF = ENUMS | words(
    "abc collections contextlib copyreg ctypes errno mmap re struct typing warnings"
)
# The command before it knows whether it needs click.
MAIN = ENUMS | words("contextlib copyreg errno gc re signal threading typing warnings")
# click itself, and what it loads to lay out a help text.
CLICK = DATACLASSES | words(
    "click datetime errno gc gettext locale math platform signal textwrap threading typing uuid"
)
HELP = CLICK | words("bz2 fnmatch lzma shutil zlib")


def command(*arguments: str) -> str:
    """Code that runs ``netbpf`` with these arguments, as the console script does."""
    return (
        "from netbpf.cli.main import main\n"
        f"try:\n    main({list(arguments)!r})\n"
        "except SystemExit:\n    pass"
    )


CASES = {
    "netbpf": Case("import netbpf"),
    "errors": Case("import netbpf.errors", ENUMS | {"errno"}),
    "constants": Case("import netbpf.constants", ENUMS),
    "model": Case("import netbpf.model", DATACLASSES),
    "bpf(2)": Case("import netbpf._sys.bpf", BPF),
    "cli": Case("import netbpf.cli.main", MAIN),
    "click": Case("import netbpf.cli.commands", CLICK),
    "--help": Case(command("--help"), HELP),
    "--version": Case(command("--version"), MAIN),
}


def loaded(code: str) -> set[str]:
    """Full names of the modules that ``code`` loads in a fresh interpreter."""
    report = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules)\n{code}\n"
        "sys.__stdout__.write('\\n=== ' + ' '.join(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", report], capture_output=True, text=True, check=True
    )
    return set(done.stdout.rpartition("\n=== ")[2].split())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_imports_only_what_is_allowed(case: Case) -> None:
    modules = loaded(case.code)
    assert "netbpf" in modules
    foreign = {name.partition(".")[0] for name in modules} - {"netbpf"}
    extra = {name for name in foreign - case.allowed if not name.startswith("_")}
    assert not extra


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_imports_nothing_heavy(case: Case) -> None:
    modules = loaded(case.code)
    assert not HEAVY & (modules | {name.partition(".")[0] for name in modules})


def test_attaching_leaves_pyroute2_whole_for_others() -> None:
    """Only its message classes are loaded, without the package's own start; who imports it later gets all of it."""
    code = (
        "import sys\n"
        "from netbpf.net import netlink\n"
        "netlink._xdp_body(3, 1, None)\n"
        "print('asyncio' in sys.modules)\n"
        "import pyroute2\n"
        "print(pyroute2.IPRoute.__name__, pyroute2.NDB.__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == ["False", "IPRoute", "NDB"]


def test_no_module_stands_in_the_way_of_a_function() -> None:
    """A package ``netbpf.stats`` would take the place of the function once something in it is imported."""
    import pkgutil

    import netbpf

    modules = {one.name for one in pkgutil.iter_modules(netbpf.__path__)}
    assert modules.isdisjoint(netbpf.__all__)


def test_every_public_name_is_there() -> None:
    import netbpf

    names = {name for home in netbpf._HOMES.values() for name in home} | {"__version__"}
    assert set(netbpf.__all__) == names
    assert all(getattr(netbpf, name) is not None for name in names)
