"""The kernel functions that programs may call (kfuncs, Documentation/bpf/kfuncs.rst), by the kernel's BTF.

Since Linux 6.10 (built with pahole 1.26) each carries the declaration tag ``bpf_kfunc``. Before, BTF does not tell
them from other functions; then every function that is called ``bpf_*`` is asked for, which takes a few seconds. Which
program types may call one is asked of the verifier: a program that does nothing else is loaded.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final, NamedTuple, Self

from netbpf._sys import bpf as sys_bpf
from netbpf._sys.fd import Fd
from netbpf._sys.info import btf_info
from netbpf.bpf.btf.kernel import VMLINUX, kernel_btf
from netbpf.bpf.btf.types import Btf, Kind
from netbpf.errors import KernelError, NetbpfError

TAG: Final = "bpf_kfunc"


class KernelFunction(NamedTuple):
    """A kfunc: its name, its BTF id, and the module it is in ("" for the kernel itself)."""

    name: str
    btf_id: int
    module: str = ""


class Kfuncs:
    """All kfuncs of the kernel and its modules. A context manager: modules' BTF stays open while they are asked for."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._modules: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def all(self) -> tuple[list[KernelFunction], bool]:
        """Those of the kernel first, then by modules; and whether BTF tells them from other functions.

        Raises NotSupportedError where the kernel has no BTF.
        """
        base = kernel_btf()
        found, told = self._in(base, "")
        modules = sorted(path for path in VMLINUX.parent.iterdir() if path != VMLINUX)
        opened = self._opened() if modules else {}
        for path in modules:
            if path.name not in opened:
                continue  # unloaded meanwhile
            try:
                types = Btf(path.read_bytes(), base)
            except (OSError, NetbpfError):
                continue  # likewise; or its BTF is of another build of the kernel, and no program could use it
            self._modules[path.name] = opened[path.name].fileno()
            found += self._in(types, path.name)[0]
        return found, told

    def module_fd(self, function: KernelFunction) -> int:
        """The BTF that a call of a module's function names; -1 for the kernel's own."""
        return self._modules.get(function.module, -1)

    @staticmethod
    def _in(types: Btf, module: str) -> tuple[list[KernelFunction], bool]:
        tagged = sorted({tag.size_or_type for tag in types.find(TAG, Kind.DECL_TAG)})
        if tagged or module:
            return [KernelFunction(types.type(one).name, one, module) for one in tagged], True
        return [
            KernelFunction(one.name, one.id)
            for one in types.of_kind(Kind.FUNC)
            if one.name.startswith("bpf_")
        ], False

    def _opened(self) -> dict[str, Fd]:
        return {name: self._open.enter_context(fd) for name, fd in _module_btf()}


def _module_btf() -> Iterator[tuple[str, Fd]]:
    """The BTF objects of modules, by name; nothing without CAP_SYS_ADMIN."""
    number: int | None = 0
    while True:
        try:
            number = sys_bpf.next_id("BTF", number or 0)
            if number is None:
                return
            fd = sys_bpf.fd_by_id("BTF", number)
        except KernelError:
            return
        info = btf_info(fd.fileno())
        if info.kernel and info.name != VMLINUX.name:
            yield info.name, fd
        else:
            fd.close()
