"""Loading programs for TEST_RUN: what the fixtures ``bench`` and ``session_bench`` are."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self

from netbpf.bpf.btf.encode import Encodable
from netbpf.constants import Hook
from netbpf.packets.testrun import Bench
from netns_fixtures import residue
from netns_fixtures.bench import BenchProgram
from netns_fixtures.evidence import Evidence
from netns_fixtures.objects import Object, specification
from netns_fixtures.pool import POOL, held

_HOOKS = {"xdp": Hook.XDP, "tc": Hook.TC_INGRESS}


class BenchMaker(ABC):
    """Loads programs, and lets go of them at the end."""

    def __init__(self) -> None:
        self._made: list[BenchProgram] = []

    def __call__(
        self,
        object_: Object,
        *,
        program: str | None = None,
        family: str | None = None,
        variables: Mapping[str, Encodable] | None = None,
    ) -> BenchProgram:
        """Load one program of an object, a C source or ``builtin:NAME``, to be run in TEST_RUN.

        ``program`` chooses among several, ``family`` is "xdp" or "tc" where the section does not say which,
        ``variables`` sets globals before the load. Raises ObjectError, CompileError, VerifierError, ...
        """
        made = self._make(object_, program, _HOOKS[family] if family else None, variables)
        self._made.append(made)
        return made

    @abstractmethod
    def _make(
        self,
        object_: Object,
        program: str | None,
        hook: Hook | None,
        variables: Mapping[str, Encodable] | None,
    ) -> BenchProgram: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._made:
            one.close()


class PooledMaker(BenchMaker):
    """For one test: programs as if just loaded, some of them used before."""

    def __init__(self, evidence: Evidence) -> None:
        super().__init__()
        self._evidence = evidence

    def _make(
        self,
        object_: Object,
        program: str | None,
        hook: Hook | None,
        variables: Mapping[str, Encodable] | None,
    ) -> BenchProgram:
        taken = POOL.take(object_, program=program, hook=hook, variables=variables)
        return BenchProgram(taken, self._evidence, POOL.give_back)


class SessionMaker(BenchMaker):
    """For all tests of a session: each object with its settings once."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, BenchProgram] = {}

    def __call__(
        self,
        object_: Object,
        *,
        program: str | None = None,
        family: str | None = None,
        variables: Mapping[str, Encodable] | None = None,
    ) -> BenchProgram:
        """As ``BenchMaker.__call__``; asked twice for the same, it gives the same program."""
        key = repr((object_, program, family, sorted((variables or {}).items())))
        if key not in self._known:
            self._known[key] = super().__call__(
                object_, program=program, family=family, variables=variables
            )
        return self._known[key]

    def _make(
        self,
        object_: Object,
        program: str | None,
        hook: Hook | None,
        variables: Mapping[str, Encodable] | None,
    ) -> BenchProgram:
        bench = Bench.open(
            specification(object_), program=program, hook=hook, settings=variables or ()
        )
        made = BenchProgram(bench, Evidence(), _let_go)
        made.shared = True
        residue.keep(*held(bench))
        return made


def _let_go(bench: Bench) -> None:
    residue.release(*held(bench))
    bench.close()
