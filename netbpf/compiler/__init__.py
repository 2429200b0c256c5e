"""Compiling C to BPF objects: plain BPF C with clang, BCC's dialect with BCC, both into ordinary ELF objects."""

from typing import TYPE_CHECKING, Any

from netbpf.compiler.result import CompileResult, Frontend, Options

if TYPE_CHECKING:
    from netbpf.compiler.cache import cached_object
    from netbpf.compiler.compile import compile_source, compile_sources

__all__ = [
    "CompileResult",
    "Frontend",
    "Options",
    "cached_object",
    "compile_source",
    "compile_sources",
]


def __getattr__(name: str) -> Any:
    # A hit in the cache needs nothing of what runs compilers.
    if name == "cached_object":
        import netbpf.compiler.cache as module

        return module.cached_object
    if name in ("compile_source", "compile_sources"):
        import netbpf.compiler.compile

        return getattr(netbpf.compiler.compile, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
