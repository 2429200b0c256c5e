"""Compiling C to BPF objects: plain BPF C with clang, BCC's dialect with BCC, both into ordinary ELF objects."""

from netbpf.compiler.result import CompileResult, Frontend, Options

__all__ = [
    "CompileResult",
    "Frontend",
    "Options",
    "cached_object",
    "compile_source",
    "compile_sources",
]


def __getattr__(name: str) -> object:
    # A cache hit needs neither of the compilers' modules.
    if name == "cached_object":
        from netbpf.compiler.cache import cached_object

        return cached_object
    if name in ("compile_source", "compile_sources"):
        import netbpf.compiler.compile as module

        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
