"""What of a program reaches beyond its packet and its maps: TEST_RUN carries that out in earnest."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from netbpf.bpf import insn as bpf
from netbpf.bpf.insn import Insn
from netbpf.bpf.linker import Image
from netbpf.text import escape

_CLONE_REDIRECT: Final = 13  # BPF_FUNC_clone_redirect
# Kernel functions that TC and XDP programs may call and that change what others see (Linux 5.18, 6.0;
# net/netfilter/nf_conntrack_bpf.c). Entries that are only made (bpf_skb_ct_alloc, bpf_ct_set_*) nobody else sees.
_ACTS: Final = {
    "bpf_ct_insert_entry": "adds connections to connection tracking",
    "bpf_ct_change_timeout": "changes when tracked connections expire",
    "bpf_ct_change_status": "changes the status of tracked connections",
}


def silenced(program: str, image: Image) -> tuple[Image, str]:
    """The image without what would send a packet, and what to say of it, "" where nothing would."""
    code = bytearray(image.insns)
    for at in range(len(code) // bpf.SIZE):
        one = bpf.read(code, at)
        # The second half of a 64-bit load has no code.
        if one.code == bpf.CALL and one.src == 0 and one.imm == _CLONE_REDIRECT:
            bpf.write(code, at, Insn(bpf.MOV64_IMM))
    if code == image.insns:
        return image, ""
    words = (
        f"bpf_clone_redirect of {escape(program)} is not carried out, but said to have worked: it would send "
        "a packet"
    )
    return replace(image, insns=code), words


def acts(program: str, image: Image) -> Iterator[str]:
    """What to say of kernel functions that cannot be left out, each once; ``image`` has its externs resolved."""
    for name, does in _ACTS.items():
        for ref in image.externs:
            # A weak one that this kernel lacks is no such call any more.
            called = ref.call and bpf.read(image.insns, ref.at).src == bpf.PSEUDO_KFUNC_CALL
            if called and ref.name.partition("___")[0] == name:
                yield f"{name} of {escape(program)} is carried out in earnest: it {does}"
                break
