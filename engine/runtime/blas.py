"""The CPU profile's native kernels: built once with the machine's C compiler, loaded before mlx.

On Linux the mlx wheel links a reference BLAS, which it finds by the name ``cblas_sgemm`` in the
global symbol scope. A library loaded there earlier takes its place: ours streams the weights for
few rows and hands the rest to the OpenBLAS that numpy carries.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SOURCE_FOLDER = Path(__file__).parent / "native"
BUILD_TIMEOUT_S = 120
SGEMM_SYMBOLS = ("scipy_cblas_sgemm64_", "cblas_sgemm64_", "scipy_cblas_sgemm64")

AVX512_FEATURES = ("avx512f", "avx512dq", "avx512bw", "avx512vl", "avx2", "fma")
AVX2_FEATURES = ("avx2", "fma")


class KernelsUnavailableError(Exception):
    """The kernels cannot be built or loaded; the message says why, in words for people."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """The loaded kernels.

    Attributes:
        library: Calls release the GIL; for calls of a millisecond or more.
        quick: The same functions, keeping the GIL: giving it up for microseconds would let
            another thread hold the engine back for a whole switch interval.
        num_threads: Threads that work on one call.
    """

    library: ctypes.CDLL
    quick: ctypes.PyDLL
    num_threads: int


def load_kernels(cache_dir: Path, num_threads: int) -> Kernels:
    """Builds the kernels if this machine has not yet, and loads them into the global scope.

    Args:
        cache_dir: Folder for the built library; made with mode 0700.
        num_threads: Threads to work with, the calling one included.

    Raises:
        KernelsUnavailableError: numpy carries no OpenBLAS, there is no C compiler, the build
            fails, or the cache folder belongs to somebody else.
    """
    sgemm = _numpy_sgemm()
    path = _built_library(cache_dir)
    try:
        library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        quick = ctypes.PyDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise KernelsUnavailableError(f"the built kernels do not load: {error}") from error
    library.stoker_bind_sgemm(ctypes.cast(sgemm, ctypes.c_void_p))
    return Kernels(library, quick, int(library.stoker_pool_start(num_threads)))


def _numpy_sgemm() -> ctypes._NamedFuncPointer:
    """``cblas_sgemm`` (64-bit integers) of the OpenBLAS inside numpy's wheel."""
    folder = Path(np.__file__).parent.parent / "numpy.libs"
    for path in sorted(folder.glob("*openblas*")):
        library = ctypes.CDLL(str(path))
        for symbol in SGEMM_SYMBOLS:
            if hasattr(library, symbol):
                return getattr(library, symbol)  # type: ignore[no-any-return]
    raise KernelsUnavailableError("this numpy carries no OpenBLAS of its own")


def _built_library(cache_dir: Path) -> Path:
    sources = sorted(SOURCE_FOLDER.glob("*.[ch]"))
    flags = _compiler_flags(_processor_features())
    path = cache_dir / f"kernels-{_content_key(sources, flags)}.so"
    _private_folder(cache_dir)
    if not path.exists():
        _build([str(source) for source in sources if source.suffix == ".c"], flags, path)
    _check_ours(path)
    return path


def _content_key(sources: list[Path], flags: list[str]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    for part in (*flags, np.__version__, platform.machine(), platform.libc_ver()[1]):
        digest.update(part.encode())
    return digest.hexdigest()[:16]


def _processor_features() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    names = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return frozenset(names.split())


def _compiler_flags(features: frozenset[str]) -> list[str]:
    """Flags for what the processor announces.

    Instruction sets are named one by one: of those beyond them, such as tile matrices, a virtual
    machine may announce what it cannot run.
    """
    flags = ["-O3", "-std=gnu11", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread"]
    if features.issuperset(AVX512_FEATURES):
        wanted: tuple[str, ...] = AVX512_FEATURES
        flags.append("-mprefer-vector-width=512")
    else:
        wanted = AVX2_FEATURES if features.issuperset(AVX2_FEATURES) else ()
    return flags + [f"-m{feature}" for feature in wanted]


def _private_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _check_ours(folder)
    folder.chmod(0o700)


def _check_ours(path: Path) -> None:
    """Code is run only from a file that nobody else could have written."""
    status = path.lstat()
    if status.st_uid != os.getuid():
        raise KernelsUnavailableError(f"{path} belongs to another user")
    if stat.S_ISLNK(status.st_mode):
        raise KernelsUnavailableError(f"{path} is a link")
    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o022:
        raise KernelsUnavailableError(f"{path} can be written by other users")


def _build(sources: list[str], flags: list[str], path: Path) -> None:
    compiler = _compiler()
    handle, name = tempfile.mkstemp(suffix=".so", dir=path.parent)
    os.close(handle)
    try:
        _compile([compiler, *flags, *sources, "-lm", "-o", name])
        os.chmod(name, 0o700)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _compiler() -> str:
    which: Callable[[str], str | None] = shutil.which
    found = next(filter(None, map(which, ("cc", "gcc", "clang"))), None)
    if found is None:
        raise KernelsUnavailableError("there is no C compiler (cc, gcc or clang)")
    return found


def _compile(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelsUnavailableError(f"the C compiler did not finish: {error}") from error
    if done.returncode != 0:
        first = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise KernelsUnavailableError(f"the C compiler refused the kernels: {first}")
