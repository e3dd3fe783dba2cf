"""The mock TEE never starts where a real one is, nor over a kernel tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mocktee import guard
from mocktee.errors import RealTeeError
from mocktee.guard import TeeTraces, refuse_beside_real_tee

NOTHING = TeeTraces(paths=())


def test_clean_machine_is_accepted(tmp_path: Path) -> None:
    traces = TeeTraces((str(tmp_path / "tdx_guest"), str(tmp_path / "firmware" / "tdx")))
    refuse_beside_real_tee([str(tmp_path / "mount")], traces)


@pytest.mark.parametrize("kind", ["file", "directory", "dangling-link"])
def test_any_trace_refuses(tmp_path: Path, kind: str) -> None:
    trace = tmp_path / "trace"
    match kind:
        case "file":
            trace.touch()
        case "directory":
            trace.mkdir()
        case _:
            trace.symlink_to(tmp_path / "absent")
    with pytest.raises(RealTeeError, match="a real TEE appears"):
        refuse_beside_real_tee(traces=TeeTraces((str(tmp_path / "no"), str(trace))))


def test_lookup_that_fails_counts_as_present(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (tmp_path / "file" / "below", loop / "below", tmp_path / ("x" * 300)):
        with pytest.raises(RealTeeError, match="cannot be ruled out"):
            refuse_beside_real_tee(traces=TeeTraces((str(path),)))


@pytest.mark.parametrize(
    "path",
    ["/sys", "/sys/kernel/config/tsm", "/proc/1", "/dev/shm/x", "/tmp/../sys/x", "//sys//kernel"],
)
def test_kernel_trees_are_refused(path: str) -> None:
    with pytest.raises(RealTeeError, match="lies under"):
        refuse_beside_real_tee([path], NOTHING)


def test_link_into_a_kernel_tree_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/sys")
    with pytest.raises(RealTeeError):
        refuse_beside_real_tee([str(link / "kernel")], NOTHING)


@pytest.mark.parametrize("path", ["/system", "/devices", "/srv/sys", "/process"])
def test_similar_names_are_accepted(path: str) -> None:
    refuse_beside_real_tee([path], NOTHING)


def test_default_traces_name_what_the_kernel_shows() -> None:
    assert set(guard.TeeTraces().paths) == {
        "/dev/tdx_guest",
        "/dev/tdx-guest",
        "/dev/tdx-attest",
        "/sys/firmware/tdx",
        "/sys/kernel/config/tsm/report",
    }
    assert all(os.path.isabs(path) for path in guard.TeeTraces().paths)
