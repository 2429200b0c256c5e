"""The running kernel's own BTF."""

import functools
from pathlib import Path

from netbpf.bpf.btf.types import Btf
from netbpf.errors import NotSupportedError

VMLINUX = Path("/sys/kernel/btf/vmlinux")


@functools.cache
def kernel_btf() -> Btf:
    """BTF of the running kernel (Linux 5.4, CONFIG_DEBUG_INFO_BTF); NotSupportedError where it has none."""
    try:
        return Btf(VMLINUX.read_bytes())
    except OSError:
        raise NotSupportedError(
            "this kernel does not tell its types: /sys/kernel/btf/vmlinux is missing",
            hint="the program uses CO-RE or kernel functions: give a BTF file with --btf, "
            "or use a kernel built with CONFIG_DEBUG_INFO_BTF",
        ) from None
