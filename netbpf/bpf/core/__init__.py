"""CO-RE relocations: programs adapted to the running kernel's types when they are loaded."""

from pathlib import Path

from netbpf.bpf.core.relocate import Relocator, Resolution, blame, needs, relocate
from netbpf.bpf.core.relocation import CoreKind
from netbpf.bpf.core.target import Target, kernel_file, running_kernel
from netbpf.bpf.linker import Image
from netbpf.bpf.object import ObjectSpec
from netbpf.errors import ObjectError
from netbpf.text import escape

__all__ = (
    "CoreKind",
    "Relocator",
    "Resolution",
    "Target",
    "blame",
    "kernel_file",
    "needs",
    "relocate",
    "relocate_image",
    "running_kernel",
)


def relocate_image(
    image: Image, spec: ObjectSpec, program: str, kernel_btf: Path | None = None
) -> list[Resolution]:
    """Patch a linked program for the running kernel, or for the kernel whose types a file holds.

    Raises ObjectError for relocations that make no sense or are ambiguous, NotSupportedError where the kernel
    does not tell its types.
    """
    if spec.btf is None:
        raise ObjectError(f"program {escape(program)} has CO-RE relocations but no BTF")
    target = kernel_file(kernel_btf) if kernel_btf else running_kernel()
    try:
        return relocate(image.insns, image.relocations, spec.btf, target)
    except ObjectError as error:
        where = f"program {escape(program)} of {spec.elf.origin}"
        raise ObjectError(f"{where}: {error.message}", hint=error.hint) from None
