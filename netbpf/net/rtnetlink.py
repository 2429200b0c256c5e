"""A small blocking rtnetlink: requests, dumps and acknowledgements over one socket (rtnetlink(7), RFC 3549).

pyroute2 does this and much more, but its import alone costs 120 ms, ten times what ``netbpf status`` needs for
all the rest. So what netbpf reads and removes goes through here; what it attaches goes through
``netbpf.net.netlink``. A socket belongs to the network namespace of the thread that opened it.
"""

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from netbpf.errors import KernelError
from netbpf.net.netns import Namespace

# struct nlmsghdr and struct nlattr, include/uapi/linux/netlink.h
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_TYPE_MASK: Final = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x01
NLM_F_ACK: Final = 0x04
_NLM_F_ECHO: Final = 0x08
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
_NLM_F_CAPPED: Final = (
    0x100  # in an acknowledgement: the request is not repeated behind the error number
)
_NLM_F_ACK_TLVS: Final = 0x200

_SO_NETNS_COOKIE: Final = 71  # include/uapi/asm-generic/socket.h
_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_NLMSGERR_ATTR_MSG: Final = 1

# The kernel fills at most 32 KiB per message of a dump (net/netlink/af_netlink.c netlink_dump).
_BUFFER_SIZE: Final = 32 * 1024
# A dump is read again when the tables changed while it ran. Each takes well under a millisecond.
_DUMP_ATTEMPTS: Final = 50


def attribute(kind: int, payload: bytes | int | str) -> bytes:
    """One netlink attribute: an int as u32 (negative ones as s32), a str with its closing NUL."""
    if isinstance(payload, int):
        payload = struct.pack("=i" if payload < 0 else "=I", payload)
    elif isinstance(payload, str):
        payload = payload.encode(errors="surrogateescape") + b"\0"
    return _ATTRIBUTE.pack(len(payload) + 4, kind) + payload + bytes(-len(payload) % 4)


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes in ``data`` from ``offset`` on, by type. What is malformed ends the list."""
    found: dict[int, bytes] = {}
    end = len(data)
    unpack = _ATTRIBUTE.unpack_from
    while offset + 4 <= end:
        length, kind = unpack(data, offset)
        if length < 4 or offset + length > end:
            break
        found[kind & _TYPE_MASK] = data[offset + 4 : offset + length]
        offset += length + 3 & ~3
    return found


def u32(data: bytes | None) -> int:
    """A u32 attribute; 0 for one that is absent."""
    return 0 if data is None else int.from_bytes(data[:4], sys.byteorder)


def text(data: bytes | None) -> str:
    """A string attribute without its NUL; "" for one that is absent. Odd bytes become surrogates."""
    return "" if data is None else data.split(b"\0", 1)[0].decode(errors="surrogateescape")


class Session:
    """A netlink socket in ``namespace``, for any number of operations. Close it, or use ``with``.

    A socket stays in the namespace it was opened in (man 7 network_namespaces), so netlink needs no thread of its
    own per operation; bpf(2) does, through ``namespace.run``. One thread at a time. The namespace is borrowed and
    has to stay open.
    """

    protocol = socket.NETLINK_ROUTE

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self._sequence = 0
        self._socket = namespace.run(self._open)

    @classmethod
    def _open(cls) -> socket.socket:
        try:
            sock = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, cls.protocol
            )
        except OSError as error:
            raise KernelError("open a netlink socket", error.errno or 0) from error
        sock.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        sock.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        sock.bind((0, 0))
        return sock

    def cookie(self) -> int:
        """The number of the namespace that, unlike its inode's, is never used again until the next boot.

        SO_NETNS_COOKIE (Linux 5.14, kernel commit e8b9eab99232); 0 on older kernels.
        """
        try:
            raw = self._socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        except OSError:
            return 0
        return int.from_bytes(raw, sys.byteorder)

    def dump(self, call: str, kind: int, body: bytes) -> list[bytes]:
        """All objects of a kind: the payload of each answer. ``call`` names the request in errors.

        A dump that the kernel marks as inconsistent, or that overran the socket, is read again. Raises KernelError.
        """
        for _ in range(_DUMP_ATTEMPTS):
            found = self._dump_once(call, kind, body)
            if found is not None:
                return found
        raise KernelError(call, errno.EAGAIN, "what was read changed faster than it could be read")

    def _dump_once(self, call: str, kind: int, body: bytes) -> list[bytes] | None:
        """One attempt; None if it has to be made again."""
        sequence = self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, body)
        found: list[bytes] = []
        interrupted = False
        while True:
            try:
                messages = list(self._receive(sequence))
            except _LostError:
                # The kernel goes on with the old dump; a new socket knows nothing of it.
                self._socket.close()
                self._socket = self.namespace.run(self._open)
                return None
            for answer, flags, payload in messages:
                interrupted |= bool(flags & NLM_F_DUMP_INTR)
                if answer == NLMSG_DONE:
                    # An error in the middle of a dump comes as the number in NLMSG_DONE, without a header.
                    _raise_for(call, payload, 4 if flags & _NLM_F_ACK_TLVS else 0)
                    return None if interrupted else found
                if answer == NLMSG_ERROR:
                    _raise_for(call, payload, _extended(flags, payload))
                else:
                    found.append(payload)

    def get(self, call: str, kind: int, body: bytes) -> bytes | None:
        """The payload of the answer about one object, None if the kernel gives none. Raises KernelError."""
        # Asked to acknowledge as well, so that there is an end to wait for whether an object comes or not. Without
        # NLM_F_ECHO the answer to RTM_GETQDISC goes to listeners only (net/sched/sch_api.c qdisc_notify).
        sequence = self._send(kind, NLM_F_REQUEST | NLM_F_ACK | _NLM_F_ECHO, body)
        found: bytes | None = None
        for answer, flags, payload in self._answers(call, sequence):
            if answer == NLMSG_ERROR:
                _raise_for(call, payload, _extended(flags, payload))
                break
            found = payload
        return found

    def request(self, call: str, kind: int, flags: int, body: bytes) -> None:
        """Change something and wait for the acknowledgement. Raises KernelError with the kernel's words."""
        sequence = self._send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body)
        for answer, answer_flags, payload in self._answers(call, sequence):
            if answer == NLMSG_ERROR:
                _raise_for(call, payload, _extended(answer_flags, payload))
                return

    def _answers(self, call: str, sequence: int) -> Iterator[tuple[int, int, bytes]]:
        while True:
            try:
                yield from self._receive(sequence)
            except _LostError as lost:
                raise KernelError(call, lost.errno, "the kernel's answer was lost") from None

    def _send(self, kind: int, flags: int, body: bytes) -> int:
        self._sequence += 1
        self._socket.sendto(
            _HEADER.pack(16 + len(body), kind, flags, self._sequence, 0) + body, (0, 0)
        )
        return self._sequence

    def _receive(self, sequence: int) -> Iterator[tuple[int, int, bytes]]:
        """(type, flags, payload) of each message of one datagram that answers ``sequence``."""
        try:
            data, _, flags, sender = self._socket.recvmsg(_BUFFER_SIZE)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            raise _LostError(errno.ENOBUFS) from None
        if flags & socket.MSG_TRUNC:
            raise _LostError(errno.EMSGSIZE)
        if sender[0] != 0:
            return  # not from the kernel: any process may send to a netlink socket
        offset = 0
        while offset + 16 <= len(data):
            length, kind, message_flags, number, _ = _HEADER.unpack_from(data, offset)
            if length < 16 or offset + length > len(data):
                raise _LostError(errno.EBADMSG)
            if number == sequence:
                yield kind, message_flags, data[offset + 16 : offset + length]
            offset += length + 3 & ~3

    def close(self) -> None:
        """Close the socket; closing twice is harmless."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _LostError(Exception):
    """An answer did not arrive whole."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.errno = number


def _raise_for(call: str, payload: bytes, extended: int) -> None:
    """KernelError if ``payload`` starts with a negative number; at ``extended``, if not 0, the kernel's words."""
    code = struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
    if code < 0:
        words = attributes(payload, extended).get(_NLMSGERR_ATTR_MSG) if extended else None
        raise KernelError(call, -code, text(words))


def _extended(flags: int, payload: bytes) -> int:
    """Where the attributes of an NLMSG_ERROR begin, 0 if it has none."""
    if not flags & _NLM_F_ACK_TLVS or len(payload) < 20:
        return 0
    # Behind the number stands the header of the request, and its body too unless the answer is capped.
    return 20 if flags & _NLM_F_CAPPED else 4 + (int(_HEADER.unpack_from(payload, 4)[0]) + 3 & ~3)
