"""What the device profile finds, builds and refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.memory import MemoryLimits
from engine.runtime import blas, container, device

needs_compiler = pytest.mark.skipif(
    sys.platform != "linux" or not any(map(shutil.which, ("cc", "gcc", "clang"))),
    reason="kernels are built on Linux with a C compiler",
)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the kernels are for Linux")


def built_library(folder: Path) -> Path:
    (library,) = folder.glob("*.so")
    return library


@needs_compiler
def test_kernels_are_built_once_in_a_private_folder(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"

    plan = device.prepare(folder)
    first = built_library(folder).stat()
    again = device.prepare(folder)

    assert plan.kernels is not None
    assert any("native kernels" in text for text in plan.fast_paths)
    assert again.kernels is not None
    assert built_library(folder).stat().st_mtime_ns == first.st_mtime_ns
    assert folder.stat().st_mode & 0o777 == 0o700
    assert first.st_mode & 0o077 == 0
    assert first.st_uid == os.getuid()


@on_linux
def test_without_a_compiler_numpy_does_the_work_and_the_reason_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    plan = device.prepare(tmp_path / "kernels")

    assert plan.kernels is None
    assert any("no C compiler" in text for text in plan.fallbacks)
    assert not list((tmp_path / "kernels").iterdir())


@needs_compiler
def test_a_library_that_others_can_write_is_not_run(tmp_path: Path) -> None:
    device.prepare(tmp_path)
    built_library(tmp_path).chmod(0o777)

    plan = device.prepare(tmp_path)

    assert plan.kernels is None
    assert any("can be written by other users" in text for text in plan.fallbacks)


@needs_compiler
def test_a_library_behind_a_link_is_not_run(tmp_path: Path) -> None:
    device.prepare(tmp_path)
    library = built_library(tmp_path)
    library.rename(tmp_path / "elsewhere")
    library.symlink_to(tmp_path / "elsewhere")

    assert device.prepare(tmp_path).kernels is None


@needs_compiler
def test_a_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)

    plan = device.prepare(tmp_path)

    assert any("belongs to another user" in text for text in plan.fallbacks)


@needs_compiler
def test_a_refusing_compiler_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "native"
    source.mkdir()
    (source / "broken.c").write_text("this is not C")
    monkeypatch.setattr(blas, "SOURCE_FOLDER", source)

    plan = device.prepare(tmp_path / "kernels")

    assert any("refused" in text for text in plan.fallbacks)
    assert not list((tmp_path / "kernels").iterdir())


@needs_compiler
def test_mlx_finds_our_matrix_product_in_place_of_its_own(tmp_path: Path) -> None:
    program = """
import ctypes, sys
from pathlib import Path
from engine.runtime import device
plan = device.prepare(Path(sys.argv[1]))
import mlx.core as mx
import numpy as np
address = lambda library: ctypes.cast(library.cblas_sgemm, ctypes.c_void_p).value
assert address(ctypes.CDLL(None)) == address(plan.kernels.library)
for rows in (1, 8, 200):
    a, b = mx.random.normal((rows, 300)), mx.random.normal((70, 300))
    for left, right in ((a, b.T), (b, a.T), (b.T, b), (a @ b.T, b)):
        expected = np.array(left).astype(np.float64) @ np.array(right).astype(np.float64)
        bound = 1e-5 * abs(expected).max()
        assert abs(np.array(left @ right) - expected).max() < bound, rows
profile = device.detect(plan)
assert (profile.name, profile.compute_dtype) == ("cpu", "float32"), profile
assert not plan.fallbacks, plan.fallbacks
print("ok")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.stdout == "ok\n", done.stderr


def test_detect_describes_the_machine() -> None:
    profile = device.detect(device.DevicePlan(fallbacks=("a reason",)))

    assert profile.name in {"cpu", "cuda", "metal"}
    assert profile.description
    assert profile.fallbacks == ("a reason",)
    assert profile.memory_limits.device_bytes > 1 << 28


@pytest.mark.parametrize(
    ("quota", "most"), [("50000 100000", 1), ("100000 100000", 1), ("max 100000", None), ("", None)]
)
def test_threads_keep_to_the_container_s_share(
    quota: str, most: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = device.num_compute_threads()
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(device, "CPU_QUOTA_FILE", tmp_path / "cpu.max")

    assert 1 <= device.num_compute_threads() <= (most or 1 << 20)
    assert most or device.num_compute_threads() >= free


def test_memory_keeps_to_the_container_s_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "memory_limit_bytes", lambda: 1_000_000_000)

    profile = device.detect(device.DevicePlan())

    if profile.name == "cpu":
        assert profile.memory_limits == MemoryLimits(750_000_000)


def test_an_accelerator_with_its_own_memory_has_two_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "total_memory_bytes", lambda: 100 << 30)

    own = device.accelerator_limits(0, 80 << 30, is_shared=False)
    shared = device.accelerator_limits(70 << 30, 96 << 30, is_shared=True)

    assert own == MemoryLimits(device_bytes=60 << 30, host_bytes=75 << 30)
    assert shared == MemoryLimits(device_bytes=70 << 30)


def test_a_shared_accelerator_keeps_to_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "total_memory_bytes", lambda: 8 << 30)

    assert device.accelerator_limits(70 << 30, 96 << 30, is_shared=True).device_bytes == 6 << 30
