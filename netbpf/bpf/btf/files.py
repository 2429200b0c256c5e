"""BTF in files: alone, as in /sys/kernel/btf, or in the section of any ELF64 file, be it of gigabytes."""

import os
import stat
import struct
from pathlib import Path
from typing import Final

from netbpf.bpf.btf.types import MAGIC, Btf
from netbpf.errors import ObjectError
from netbpf.text import escape

_MAX_BTF: Final = 256 << 20  # bytes; the kernel's own has 6 MB, with all drivers built in 20
_MAX_SECTIONS: Final = 1 << 16
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_NOBITS: Final = 8


def read_btf(path: Path, base: Btf | None = None) -> Btf:
    """The BTF that a file is or holds; ``base`` is that which a split one continues. ObjectError where it has none."""
    name = escape(str(path))
    try:
        # Without O_NONBLOCK a FIFO would wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ObjectError(f"cannot open {name}: {error.strerror}") from None
    except ValueError:
        raise ObjectError(f"cannot open {name}: the name holds a NUL byte") from None
    try:
        return Btf(_bytes(fd, name), base)
    except ObjectError as error:
        error.message = error.message if name in error.message else f"{name}: {error.message}"
        raise
    except OSError as error:
        raise ObjectError(f"cannot read {name}: {error.strerror}") from None
    finally:
        os.close(fd)


def _bytes(fd: int, name: str) -> bytes:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise ObjectError(
            f"{name} is {'a directory' if stat.S_ISDIR(status.st_mode) else 'no file'}"
        )
    head = os.pread(fd, 64, 0)
    if len(head) >= 2 and int.from_bytes(head[:2], "little") == MAGIC:
        return _read(fd, 0, status.st_size)
    if head[:4] != b"\x7fELF" or len(head) < 64:
        raise ObjectError(f"{name} is neither an ELF file nor BTF")
    if head[4] != 2 or head[5] != 1:
        raise ObjectError(f"{name} is no ELF64 file of little-endian byte order")
    return _section(fd, head, name)


def _section(fd: int, head: bytes, name: str) -> bytes:
    start, size, count, names_at = struct.unpack_from("<Q10xHHH", head, 40)
    if size != _SECTION.size:
        raise ObjectError(f"{name} has section headers of {size} bytes")
    if start and not count:  # more than fit into 16 bits: elf(5)
        count = _header(fd, start)[5]
    if not start or names_at >= count or count > _MAX_SECTIONS:
        raise ObjectError(f"{name} has no table of sections")
    headers = [_SECTION.unpack_from(table, 0) for table in _tables(fd, start, count)]
    _, _, _, _, offset, length, *_ = headers[names_at]
    names = _read(fd, offset, length)
    for named, kind, _, _, offset, length, *_ in headers:
        if names[named : named + 5] == b".BTF\0" and kind != _NOBITS and length:
            return _read(fd, offset, length)
    raise ObjectError(f"{name} has no BTF", hint="compile with -g; netbpf compile does")


def _header(fd: int, at: int) -> tuple[int, ...]:
    return _SECTION.unpack(_read(fd, at, _SECTION.size))


def _tables(fd: int, start: int, count: int) -> list[bytes]:
    data = _read(fd, start, count * _SECTION.size)
    return [data[at : at + _SECTION.size] for at in range(0, len(data), _SECTION.size)]


def _read(fd: int, offset: int, length: int) -> bytes:
    if length > _MAX_BTF:
        raise ObjectError(f"its BTF has {length} bytes; {_MAX_BTF} are read at most")
    found = bytearray()
    while len(found) < length and offset < 1 << 62:
        part = os.pread(fd, length - len(found), offset + len(found))
        if not part:
            break
        found += part
    if len(found) < length:
        raise ObjectError("the file is truncated: a section ends behind it")
    return bytes(found)
