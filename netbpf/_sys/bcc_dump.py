"""A script, run in a child process: compile one C source with BCC's library and write down what came out.

Usage: python -I -S bcc_dump.py LIBBCC SOURCE RESULT [CFLAG...]

It stands alone (nothing of netbpf is imported) and is a child because BCC prints to stdout and stderr as it
likes, changes the directory, and takes the process down when LLVM meets a bug. BCC creates the maps while it
compiles; they end with the process. The function names and signatures are those of BCC's C interface
(src/cc/bcc_common.h), the layout that of struct bpf_map_info (include/uapi/linux/bpf.h).

Exit status: 0 with JSON in RESULT, 1 where BCC refused the source (its messages are on stderr), 2 where the library
cannot be used (one line on stderr).
"""

import ctypes
import json
import os
import struct
import sys

MAP_INFO_SIZE = 128  # bytes; the kernel fills what it knows and leaves the rest
BTF_SIZE = 64 << 20  # bytes; larger than any BTF of one source


def prototypes(library: ctypes.CDLL) -> None:
    """Declare what is called, so that pointers and sizes keep their 64 bits."""
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    for name, result, *arguments in (
        (
            "bpf_module_create_c",
            pointer,
            text,
            ctypes.c_uint,
            ctypes.POINTER(text),
            ctypes.c_int,
            ctypes.c_bool,
            text,
        ),
        ("bpf_num_functions", size, pointer),
        ("bpf_function_name", text, pointer, size),
        ("bpf_function_start", pointer, pointer, text),
        ("bpf_function_size", size, pointer, text),
        ("bpf_num_tables", size, pointer),
        ("bpf_table_name", text, pointer, size),
        ("bpf_table_fd", ctypes.c_int, pointer, text),
        ("bpf_table_type_id", ctypes.c_int, pointer, size),
        ("bpf_table_max_entries_id", size, pointer, size),
        ("bpf_table_flags_id", ctypes.c_int, pointer, size),
        ("bpf_module_license", text, pointer),
        (
            "bpf_obj_get_info_by_fd",
            ctypes.c_int,
            ctypes.c_int,
            pointer,
            ctypes.POINTER(ctypes.c_uint32),
        ),
    ):
        function = getattr(library, name)  # the last one is libbpf's, which libbcc brings along
        function.restype, function.argtypes = result, arguments


def object_info(library: ctypes.CDLL, fd: int, info: "ctypes.Array[ctypes.c_char]") -> None:
    """BPF_OBJ_GET_INFO_BY_FD."""
    length = ctypes.c_uint32(len(info))
    if library.bpf_obj_get_info_by_fd(fd, info, ctypes.byref(length)):
        raise OSError(ctypes.get_errno(), "BPF_OBJ_GET_INFO_BY_FD failed")


def table(library: ctypes.CDLL, module: int, index: int) -> dict[str, object]:
    """A table as declared, with the sizes and types of the map that BCC made of it."""
    name = library.bpf_table_name(module, index)
    fd = library.bpf_table_fd(module, name)
    info = ctypes.create_string_buffer(MAP_INFO_SIZE)
    object_info(library, fd, info)
    # Type, size and flags are BCC's: the kernel adds flags of its own that it would not take from us (devmap).
    _, _, key_size, value_size = struct.unpack_from("4I", info)
    key_type, value_type = struct.unpack_from("2I", info, 68)
    return {
        "name": name.decode(), "fd": fd, "type": library.bpf_table_type_id(module, index),
        "key_size": key_size, "value_size": value_size,
        "max_entries": library.bpf_table_max_entries_id(module, index),
        "flags": library.bpf_table_flags_id(module, index), "key_type": key_type, "value_type": value_type,
    }  # fmt: skip


def btf(library: ctypes.CDLL) -> bytes:
    """The BTF that BCC loaded into the kernel and keeps open; nothing where the kernel took none."""
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115
        except OSError:  # the directory that is being listed
            continue
        if target.startswith("anon_inode:") and "btf" in target:
            break
    else:
        return b""
    # struct bpf_btf_info: address and size of a buffer, id, and the address and size of a name.
    info = ctypes.create_string_buffer(32)
    object_info(library, int(name), info)
    size = struct.unpack_from("I", info, 8)[0]
    if size > BTF_SIZE:
        raise OSError(0, f"BTF of {size} bytes")
    content = ctypes.create_string_buffer(size)
    info = ctypes.create_string_buffer(struct.pack("QII", ctypes.addressof(content), size, 0), 32)
    object_info(library, int(name), info)
    return content.raw


def functions(library: ctypes.CDLL, module: int) -> list[dict[str, str]]:
    """Name and instructions of every function."""
    found = []
    for index in range(library.bpf_num_functions(module)):
        name = library.bpf_function_name(module, index)
        start, size = (
            library.bpf_function_start(module, name),
            library.bpf_function_size(module, name),
        )
        found.append({"name": name.decode(), "code": ctypes.string_at(start, size).hex()})
    return found


def main(arguments: list[str]) -> int:
    """Compile, write the result, return the exit status."""
    path, source, result, *cflags = arguments
    try:
        library = ctypes.CDLL(path, use_errno=True)
        prototypes(library)
    except (
        OSError,
        AttributeError,
    ) as error:  # not to be loaded, or without a function that is needed
        sys.stderr.write(f"{error}\n")
        return 2
    flags = (ctypes.c_char_p * len(cflags))(
        *(flag.encode(errors="surrogateescape") for flag in cflags)
    )
    name = source.encode(errors="surrogateescape")
    module = library.bpf_module_create_c(name, 0, flags, len(cflags), True, None)
    if not module:
        return 1
    dump = {
        "license": (library.bpf_module_license(module) or b"").decode(errors="surrogateescape"),
        "functions": functions(library, module),
        "tables": [
            table(library, module, index) for index in range(library.bpf_num_tables(module))
        ],
        "btf": btf(library).hex(),
    }
    with open(result, "w", encoding="utf-8") as file:
        json.dump(dump, file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
