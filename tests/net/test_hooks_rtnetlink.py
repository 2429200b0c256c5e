"""The socket itself, with datagrams made here: what the kernel says only when it is hard pressed."""

import errno
import socket
import struct
from collections.abc import Callable

import pytest

from netbpf.errors import KernelError
from netbpf.net.netns import Namespace
from netbpf.net.rtnetlink import Session, attribute, attributes, text, u32

KIND, DONE, ERROR = 16, 3, 2
INTERRUPTED, CAPPED, TLVS = 0x10, 0x100, 0x200
Datagram = tuple[bytes, list[object], int, tuple[int, int]]


def message(kind: int, payload: bytes, flags: int = 0, sequence: int = 1) -> bytes:
    return (
        struct.pack("=IHHII", 16 + len(payload), kind, flags, sequence, 0)
        + payload
        + bytes(-len(payload) % 4)
    )


def datagram(*messages: bytes, flags: int = 0, sender: int = 0) -> Datagram:
    return b"".join(messages), [], flags, (sender, 0)


class Script:
    """A socket whose kernel answers from a list; an errno in it is raised."""

    def __init__(self, *answers: Datagram | int) -> None:
        self.answers = list(answers)
        self.closed = False

    def sendto(self, data: bytes, address: tuple[int, int]) -> int:
        assert address == (0, 0)
        return len(data)

    def recvmsg(self, size: int) -> Datagram:
        assert size >= 32768
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            raise OSError(answer, "scripted")
        return answer

    def close(self) -> None:
        self.closed = True


Scripted = Callable[..., Session]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """A session on the first script; each new socket it opens is the next one."""

    def build(*scripts: Script) -> Session:
        sockets = iter(scripts)
        monkeypatch.setattr(Session, "_open", staticmethod(lambda: next(sockets)))
        return Session(Namespace.current())

    return build


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> object:
    """All of it in one namespace, closed at the end."""
    with Namespace.current() as namespace:
        monkeypatch.setattr(Namespace, "current", lambda: namespace)
        yield namespace


def test_dump_joins_datagrams_and_leaves_out_other_answers(scripted: Scripted) -> None:
    session = scripted(
        Script(
            datagram(message(KIND, b"old!", sequence=7), message(KIND, b"one!")),
            datagram(message(KIND, b"fake"), sender=4242),
            datagram(message(KIND, b"two!")),
            datagram(message(DONE, bytes(4))),
        )
    )
    assert session.dump("DUMP", 18, b"") == [b"one!", b"two!"]


def test_an_interrupted_dump_is_read_again(scripted: Scripted) -> None:
    session = scripted(
        Script(
            datagram(message(KIND, b"torn", INTERRUPTED)),
            datagram(message(KIND, b"more"), message(DONE, bytes(4))),
            datagram(message(KIND, b"good", sequence=2), message(DONE, bytes(4), sequence=2)),
        )
    )
    assert session.dump("DUMP", 18, b"") == [b"good"]


def test_a_dump_that_never_settles_is_an_error(scripted: Scripted) -> None:
    torn = [datagram(message(DONE, bytes(4), INTERRUPTED, number)) for number in range(1, 51)]
    with pytest.raises(KernelError, match="changed faster") as caught:
        scripted(Script(*torn)).dump("DUMP", 18, b"")
    assert caught.value.errno == errno.EAGAIN


@pytest.mark.parametrize(
    "loss",
    [
        errno.ENOBUFS,
        datagram(message(KIND, b"part"), flags=socket.MSG_TRUNC),
        datagram(message(KIND, b"part")[:-2]),
        datagram(struct.pack("=IHHII", 8, KIND, 0, 1, 0)),
    ],
)
def test_a_lost_part_of_a_dump_is_asked_for_on_a_new_socket(
    scripted: Scripted, loss: Datagram | int
) -> None:
    first = Script(datagram(message(KIND, b"old!")), loss)
    again = Script(
        datagram(message(KIND, b"new!", sequence=2), message(DONE, bytes(4), sequence=2))
    )
    assert scripted(first, again).dump("DUMP", 18, b"") == [b"new!"]
    assert first.closed


def test_a_lost_acknowledgement_is_an_error_not_a_second_try(scripted: Scripted) -> None:
    with pytest.raises(KernelError, match="answer was lost") as caught:
        scripted(Script(errno.ENOBUFS)).request("SET", 19, 0, b"")
    assert caught.value.errno == errno.ENOBUFS


def test_other_errors_of_the_socket_are_not_swallowed(scripted: Scripted) -> None:
    with pytest.raises(OSError, match="scripted"):
        scripted(Script(errno.ENOMEM)).request("SET", 19, 0, b"")


def error(number: int, words: str, *, capped: bool) -> bytes:
    """An NLMSG_ERROR with extended text, behind the request's header or the whole request."""
    request = message(19, b"" if capped else b"abcde")
    body = struct.pack("=i", -number) + request + attribute(1, words)
    return message(ERROR, body, TLVS | (CAPPED if capped else 0))


@pytest.mark.parametrize("capped", [True, False])
def test_the_words_of_the_kernel(scripted: Scripted, capped: bool) -> None:
    session = scripted(Script(datagram(error(errno.EINVAL, "No such thing", capped=capped))))
    with pytest.raises(
        KernelError, match=r"SET: Invalid argument \(EINVAL\): No such thing"
    ) as caught:
        session.request("SET", 19, 0, b"")
    assert (caught.value.errno, caught.value.detail) == (errno.EINVAL, "No such thing")


def test_an_error_at_the_end_of_a_dump(scripted: Scripted) -> None:
    done = message(DONE, struct.pack("=i", -errno.EOPNOTSUPP) + attribute(1, "Why"), TLVS)
    with pytest.raises(KernelError, match="Why"):
        scripted(Script(datagram(message(KIND, b"some")), datagram(done))).dump("DUMP", 18, b"")


def test_an_acknowledgement_without_object(scripted: Scripted) -> None:
    assert scripted(Script(datagram(message(ERROR, bytes(20))))).get("GET", 18, b"") is None


def test_attributes() -> None:
    data = attribute(1, "name") + attribute(0x8002, 7) + attribute(3, b"abc") + attribute(4, -1)
    assert len(data) % 4 == 0
    found = attributes(data)
    assert text(found[1]) == "name"
    assert u32(found[2]) == 7
    assert found[3] == b"abc"
    assert found[4] == b"\xff" * 4
    assert (text(None), u32(None)) == ("", 0)


@pytest.mark.parametrize(
    "tail", [b"\x03\x00\x01\x00", b"\x00\x00\x01\x00", b"\xff\x00\x01\x00abcd", b"\x08"]
)
def test_malformed_attributes_end_the_list(tail: bytes) -> None:
    assert attributes(attribute(1, 5) + tail) == {1: struct.pack("=I", 5)}
