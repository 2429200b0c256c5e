"""What the tests of the shipped programs share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netbpf.bpf.loader import load
from netbpf.bpf.object import ObjectSpec
from netbpf.constants import Hook
from netbpf.manager.sources import builtin
from netns_fixtures.kinds import AttachKind
from netns_fixtures.rig import Rig
from netns_fixtures.topology import Wire
from tests.programs.filters import InTestRun, OnWire, Shared
from tests.programs.tally import Tally
from tests.support.mounts import forget_pins

Programs = Callable[[str], Shared]

HERE = Path(__file__).parent
_NEED_ROOT = {"topology", "drop_programs", "bench"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever has a wire or a program needs root."""
    for item in items:
        if item.path.is_relative_to(HERE) and _NEED_ROOT & set(getattr(item, "fixturenames", ())):
            item.add_marker("root")


@pytest.fixture(scope="session")
def drop_programs() -> Iterator[Programs]:
    """xdp_drop and tc_drop by "xdp" and "tc", loaded once: the verifier takes longer than any of the tests."""
    made: dict[str, Shared] = {}

    def program(family: str) -> Shared:
        if family not in made:
            spec = ObjectSpec.open(builtin(f"{family}_drop"))
            hook = Hook.XDP if family == "xdp" else Hook.TC_INGRESS
            loaded = load(spec, spec.select(hook), hook)
            made[family] = Shared(loaded, Tally(loaded.maps["hits"]))
        return made[family]

    yield program
    for one in made.values():
        one.hits.close()
        one.loaded.close()


@pytest.fixture
def packet_filter(rig: Rig, drop_programs: Programs) -> Iterator[OnWire]:
    """The drop program of netbpf on each kind of hook, without rules, under policy PASS."""
    made = OnWire(rig, drop_programs(rig.kind.family))
    yield made
    made.close()


@pytest.fixture
def jumbo_filter(
    veth: Callable[..., Wire],
    attach_kind: AttachKind,
    drop_programs: Programs,
) -> Iterator[OnWire]:
    """The same on a wire for frames of 9000 bytes."""
    rig = Rig(veth(mtu=9000), attach_kind)
    made = OnWire(rig, drop_programs(attach_kind.family))
    yield made
    made.close()
    rig.close()


@pytest.fixture(params=["xdp", "tc"])
def any_filter(request: pytest.FixtureRequest, drop_programs: Programs) -> Iterator[InTestRun]:
    """The same, on no hook but in TEST_RUN: for shapes of packets in large numbers."""
    hook = Hook.XDP if request.param == "xdp" else Hook.TC_INGRESS
    made = InTestRun(drop_programs(request.param), hook)
    yield made
    made.close()


@pytest.fixture
def private_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Records and cache of netbpf for this test alone."""
    monkeypatch.setenv("NETBPF_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("NETBPF_CACHE_DIR", str(tmp_path / "cache"))
    yield
    forget_pins(tmp_path / "state")
