"""What a program's context says of a packet: struct xdp_md and struct __sk_buff (include/uapi/linux/bpf.h)."""

from dataclasses import dataclass

from netbpf.bpf.assembler import ADD, JEQ, R0, R1, R2, R3, R4, SUB, WORD, Assembler
from netbpf.constants import Hook

SKB_LOAD_BYTES, XDP_GET_BUFF_LEN, XDP_LOAD_BYTES = (
    26,
    188,
    189,
)  # BPF_FUNC_*; the latter two Linux 5.18


@dataclass(frozen=True, slots=True)
class Context:
    """Offsets in bytes. ``pieces``: a packet may be in several; ``tags``: its VLAN tag may be beside it."""

    data: int
    end: int
    interface: int
    queue: int
    load_bytes: int
    pieces: bool
    tags: bool
    whole_length: int | None = None
    tag_present: int = 0
    tag: int = 0
    tag_protocol: int = 0

    def bounds(self, out: Assembler, context: int, data: int, end: int) -> None:
        """Registers for the begin and the end of the packet's first piece.

        With a tag beside the packet ``data`` is 0: what is read has to go through the slow function.
        """
        out.load(WORD, data, context, self.data)
        out.load(WORD, end, context, self.end)
        if self.tags:
            out.load(WORD, R0, context, self.tag_present)
            out.jump_if(JEQ, R0, 0, "untagged")
            out.set(data, 0)
            out.label("untagged")

    def length(self, out: Assembler, context: int, work: int, *, label: str) -> None:
        """R0 = the packet's length on the wire, tag included; R1 to R5 are lost."""
        if self.whole_length is not None:
            out.load(WORD, R0, context, self.whole_length)
            out.load(WORD, work, context, self.tag_present)
            out.jump_if(JEQ, work, 0, label)
            out.op(ADD, R0, 4)
            out.label(label)
        elif self.pieces:
            out.mov(R1, context)
            out.helper(XDP_GET_BUFF_LEN)
        else:
            out.load(WORD, R0, context, self.end)
            out.load(WORD, work, context, self.data)
            out.op_reg(SUB, R0, work)

    def copy(self, out: Assembler, context: int, offset: int, target: int, size: int) -> None:
        """Bytes of the packet into memory; R0 is less than 0 where they are not there."""
        out.mov(R1, context)
        out.mov(R2, offset)
        out.mov(R3, target)
        out.mov(R4, size)
        out.helper(self.load_bytes)


def context_of(hook: Hook, *, frags: bool) -> Context:
    """The context of a hook; ``frags`` says whether an XDP program takes frames in several buffers."""
    if hook is Hook.XDP:
        return Context(0, 4, 12, 16, XDP_LOAD_BYTES, frags, tags=False)
    return Context(
        76, 80, 40, 12, SKB_LOAD_BYTES, pieces=True, tags=True,
        whole_length=0, tag_present=20, tag=24, tag_protocol=28,
    )  # fmt: skip
