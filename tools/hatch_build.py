"""Build hook of the wheel: the programs in xdp/, tc/ and tracing/ are compiled before it is put together."""

import shutil
import subprocess
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompilePrograms(BuildHookInterface[Any]):
    """Runs ``make bpf``, which compiles what is missing or older than its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, or fail the build: a wheel without its programs must not leave the house."""
        if version == "editable":  # lives in a checkout, where the user runs `make bpf`
            return
        if shutil.which("make") is None:
            raise RuntimeError(
                "netbpf's wheel holds compiled BPF programs: install make, clang and libbpf-dev"
            )
        subprocess.run(["make", "bpf"], cwd=self.root, check=True)
