"""How the command's process ends: at once, but not before what others have left to do is done."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def ended(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """``netbpf --version`` after some code, in a process of its own."""
    whole = f"import sys\n{code}\nsys.argv = ['netbpf', '--version']\nfrom netbpf.cli.main import main\nmain()"
    command = [sys.executable, *options, "-c", whole]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)


def test_functions_for_the_end_run() -> None:
    done = ended("import atexit\natexit.register(print, 'the end')")
    assert done.stdout.splitlines()[0].startswith("netbpf ")
    assert done.stdout.splitlines()[1:] == ["the end"]


def test_threads_are_waited_for() -> None:
    code = (
        "import threading\n"
        "def last():\n    threading.main_thread().join()\n    print('the thread')\n"
        "threading.Thread(target=last).start()"
    )
    assert ended(code).stdout.splitlines()[1:] == ["the thread"]


def test_who_looks_for_leaks_finds_them() -> None:
    """Modules are taken apart in Python's development mode, not else: what is left open is seen then."""
    code = "class Left:\n    def __del__(self):\n        print('taken apart')\nleft = Left()"
    assert ended(code, "-X", "dev").stdout.splitlines()[1:] == ["taken apart"]
    assert ended(code).stdout.splitlines()[1:] == []
