"""Which device this machine runs models on, and what can be read from it."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import sys
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from engine.memory import MemoryLimits
from engine.runtime import container
from engine.runtime.blas import Kernels, KernelsUnavailableError, load_kernels

CUDA_PACKAGES = ("mlx-cuda", "mlx-cuda-12", "mlx-cuda-13")
CUDA_DEVICE_FILE = Path("/dev/nvidiactl")
CPU_QUOTA_FILE = Path("/sys/fs/cgroup/cpu.max")
MEMORY_SHARE = 0.75
WIRED_SHARE = 0.9
"""Share of the recommended working set that may stay wired on metal."""

KERNELS_PATH = "native kernels for linear layers, attention and activations"


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePlan:
    """What was prepared before mlx was imported.

    Attributes:
        kernels: The CPU profile's native kernels; None where they are not needed or not there.
        fast_paths: What is on, in words.
        fallbacks: What could not be switched on and why, in words.
    """

    kernels: Kernels | None = None
    fast_paths: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfile:
    """The device that models run on.

    Attributes:
        name: ``metal``, ``cuda`` or ``cpu``.
        description: Chip or processor name.
        fast_paths: What is on, in words.
        fallbacks: What could not be switched on and why, in words.
        memory_limits: What the process may use.
        compute_dtype: Type of weights and KV: ``float32`` on ``cpu``, whose 16-bit arithmetic is
            emulated; ``model`` elsewhere, the model's own type.
        kernels: The CPU profile's native kernels; None elsewhere or where they are not there.
    """

    name: str = "cpu"
    description: str = ""
    fast_paths: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    memory_limits: MemoryLimits = field(default_factory=lambda: MemoryLimits(0))
    compute_dtype: str = "float32"
    kernels: Kernels | None = None


def prepare(cache_dir: Path) -> DevicePlan:
    """Gets the device ready; call on the engine thread before ``mlx.core`` is first imported.

    On Linux without CUDA it loads the native kernels that take the place of mlx's reference BLAS,
    and builds them first where this machine has not done so (a few seconds).

    Args:
        cache_dir: Folder for built kernels.
    """
    if sys.platform != "linux" or _has_cuda():
        return DevicePlan()
    late = "mlx.core" in sys.modules
    try:
        kernels = load_kernels(cache_dir, num_compute_threads())
    except (KernelsUnavailableError, OSError) as error:
        return DevicePlan(fallbacks=(f"no native kernels, numpy's are used: {error}",))
    fallbacks = ("mlx was loaded first, so its own matmul stays slow",) if late else ()
    path = f"{KERNELS_PATH}, {kernels.num_threads} threads"
    return DevicePlan(kernels=kernels, fast_paths=(path,), fallbacks=fallbacks)


def detect(plan: DevicePlan) -> DeviceProfile:
    """Finds the device that mlx uses. Imports ``mlx.core``.

    Args:
        plan: What ``prepare`` returned.
    """
    import mlx.core as mx

    if mx.metal.is_available():
        return _accelerator("metal", plan)
    if mx.default_device().type == mx.gpu:
        return _accelerator("cuda", plan)
    return DeviceProfile(
        name="cpu",
        description=_processor_name(),
        fast_paths=plan.fast_paths,
        fallbacks=plan.fallbacks,
        memory_limits=MemoryLimits(int(total_memory_bytes() * MEMORY_SHARE)),
        compute_dtype="float32",
        kernels=plan.kernels,
    )


def num_compute_threads() -> int:
    """Physical cores that this process may use, within the container's share of them."""
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    return max(1, min(cores, allowed, _cpu_quota() or cores))


def _cpu_quota() -> int | None:
    """Whole cores of the container's quota, rounded up; None without one."""
    try:
        quota, period = CPU_QUOTA_FILE.read_text().split()
    except (OSError, ValueError):
        return None
    return math.ceil(int(quota) / int(period)) if quota.isdigit() and int(period) else None


def _accelerator(name: str, plan: DevicePlan) -> DeviceProfile:
    import mlx.core as mx

    facts = mx.device_info()
    working_set = int(facts.get("max_recommended_working_set_size", 0))
    if name == "metal" and working_set:
        mx.set_wired_limit(int(working_set * WIRED_SHARE))
    return DeviceProfile(
        name=name,
        description=str(facts.get("device_name", "") or platform.processor()),
        fast_paths=plan.fast_paths,
        fallbacks=plan.fallbacks,
        memory_limits=accelerator_limits(
            working_set, int(facts.get("memory_size", 0)), is_shared=name == "metal"
        ),
        compute_dtype="model",
    )


def accelerator_limits(
    working_set_bytes: int, device_bytes: int, *, is_shared: bool
) -> MemoryLimits:
    """What may be used on an accelerator.

    Args:
        working_set_bytes: What its driver recommends; 0 where it recommends nothing.
        device_bytes: Its memory; 0 where it does not say.
        is_shared: Whether that is the machine's memory.
    """
    host_bytes = int(total_memory_bytes() * MEMORY_SHARE)
    own_bytes = working_set_bytes or int(device_bytes * MEMORY_SHARE)
    if is_shared:
        return MemoryLimits(min(own_bytes or host_bytes, host_bytes))
    return MemoryLimits(own_bytes or host_bytes, host_bytes)


def _has_cuda() -> bool:
    if not CUDA_DEVICE_FILE.exists():
        return False
    installed = {dist.name.lower() for dist in importlib.metadata.distributions() if dist.name}
    return not installed.isdisjoint(CUDA_PACKAGES)


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def total_memory_bytes() -> int:
    """Memory of the machine, or what the container allows of it."""
    total = psutil.virtual_memory().total
    return min(total, container.memory_limit_bytes() or total)
