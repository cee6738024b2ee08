"""``stoker doctor``: what on this machine is well, what is not, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from app.address import api_url
from app.claude_settings import overrides
from app.clients import CLIENTS, claude_address
from app.config import BUNDLED_MODEL, Settings
from app.logs import printable
from app.models_command import refusal_of
from app.paths import Paths
from app.version import __version__

PACKAGES = (
    "mlx",
    "mlx-lm",
    "numpy",
    "tokenizers",
    "jinja2",
    "gguf",
    "safetensors",
    "textual",
    "fastapi",
    "starlette",
    "uvicorn",
    "pydantic",
    "prometheus-client",
)
MIN_FREE_DISK_BYTES = 2 * 10**9
MIN_FREE_MEMORY_BYTES = 2 * 10**9
MIN_COLUMNS, MIN_LINES = 80, 24


class Health(StrEnum):
    """How one check came out."""

    OK = "ok"
    NOTE = "note"
    """It works, but not as well as it could."""
    BAD = "bad"
    """Stoker will not work until this is put right."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check.

    Attributes:
        check: What was looked at.
        health: How it came out.
        text: What was found, and what to do where that is not well.
    """

    check: str
    health: Health
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was looked at."""

    findings: tuple[Finding, ...]

    @property
    def is_well(self) -> bool:
        """Whether nothing keeps Stoker from working."""
        return all(finding.health is not Health.BAD for finding in self.findings)


def examine(settings: Settings, paths: Paths) -> Report:
    """Runs every check. Takes some seconds: it loads mlx and reads the model's weights.

    Args:
        settings: What would be run.
        paths: Where it would be run.
    """
    # The device comes before all that may load mlx: its fast paths must be there first.
    device = check_device(paths.cache_dir)
    checks: list[Callable[[], list[Finding]]] = [
        check_python,
        check_packages,
        lambda: device,
        check_compiler,
        lambda: check_model(settings.model, paths.models_dir),
        lambda: check_folder("data folder", paths.data_dir),
        lambda: check_folder("cache folder", paths.cache_dir),
        lambda: check_port(settings.host, settings.port),
        check_memory,
        check_terminal,
        check_clients,
        lambda: check_claude_settings(settings),
    ]
    return Report(tuple(finding for check in checks for finding in check()))


def report_as_json(report: Report) -> str:
    """The report as a JSON object."""
    findings = [asdict(finding) for finding in report.findings]
    return json.dumps({"is_well": report.is_well, "findings": findings}, indent=2)


def report_as_table(report: Report, *, only_problems: bool = False) -> str:
    """The report as lines for people.

    Args:
        report: What was found.
        only_problems: Leave out what is well.
    """
    shown = [
        finding
        for finding in report.findings
        if not (only_problems and finding.health is Health.OK)
    ]
    width = max((len(finding.check) for finding in shown), default=0)
    lines = [
        f"{finding.health:4}  {finding.check:{width}}  {printable(finding.text)}"
        for finding in shown
    ]
    if not only_problems:
        verdict = "all is well" if report.is_well else "put right what is marked bad"
        lines.append(f"\nstoker {__version__}: {verdict}")
    return "\n".join(lines)


def check_python() -> list[Finding]:
    """The interpreter."""
    text = f"{platform.python_version()} at {sys.executable}"
    return [Finding("python", Health.OK, text)]


def check_packages() -> list[Finding]:
    """The packages that Stoker stands on."""
    versions, missing = [], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        text = f"missing: {', '.join(missing)}; run `make setup`, or install stoker again"
        return [Finding("packages", Health.BAD, text)]
    return [Finding("packages", Health.OK, ", ".join(versions))]


def check_device(cache_dir: Path) -> list[Finding]:
    """The device that models run on and its fast paths; builds them where they are missing."""
    try:
        from engine.runtime import device

        # ImportError: mlx is missing, or its shared library does not load on this machine.
        profile = device.detect(device.prepare(cache_dir))
    except ImportError as error:
        return [Finding("device", Health.BAD, f"mlx does not load: {error}")]
    limit = gigabytes(profile.memory_limits.device_bytes)
    findings = [
        Finding("device", Health.OK, f"{profile.name}: {profile.description}, up to {limit}")
    ]
    findings += [Finding("fast path", Health.OK, text) for text in profile.fast_paths]
    findings += [Finding("fast path", Health.NOTE, text) for text in profile.fallbacks]
    return findings


def check_compiler() -> list[Finding]:
    """The C compiler, which builds the fast paths of the CPU profile."""
    if sys.platform != "linux":
        return []
    found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if found is None:
        text = "none found: install gcc or clang, or generation on the CPU stays slow"
        return [Finding("c compiler", Health.NOTE, text)]
    return [Finding("c compiler", Health.OK, found)]


def check_model(reference: str, models_dir: Path) -> list[Finding]:
    """The model that would be loaded; its weights are read and compared with their checksums."""
    from engine.models import bundled

    if reference != BUNDLED_MODEL:
        refusal = refusal_of(reference)
        return [Finding("model", Health.BAD if refusal else Health.OK, refusal or reference)]
    source, folder = bundled.find_gguf(), bundled.bundled_folder(models_dir)
    faults = bundled.bundled_faults(models_dir, full=True)
    if not faults:
        return [Finding("model", Health.OK, f"bundled, checksums right, in {folder}")]
    if source is None:
        text = f"the bundled model is not installed: {bundled.INSTALL_HINT}"
        return [Finding("model", Health.BAD, text)]
    if not folder.exists():
        return [Finding("model", Health.OK, "bundled; it is converted at the first start")]
    text = f"{faults[0]}; remove {folder} and start again to make it anew"
    return [Finding("model", Health.BAD, text)]


def check_folder(check: str, folder: Path) -> list[Finding]:
    """Whether a folder can be written, or made, and has room."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        text = f"{existing} cannot be written; set STOKER_HOME to a folder that can"
        return [Finding(check, Health.BAD, text)]
    free_bytes = shutil.disk_usage(existing).free
    text = f"{folder}, {gigabytes(free_bytes)} free"
    if free_bytes < MIN_FREE_DISK_BYTES:
        hint = f"{text}: make room, or move it with STOKER_HOME"
        return [Finding(check, Health.NOTE, hint)]
    return [Finding(check, Health.OK, text)]


def check_port(host: str, port: int) -> list[Finding]:
    """Whether the API's address can be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            text = f"{host}:{port} cannot be had ({error.strerror}); choose another with --port"
            return [Finding("port", Health.NOTE, text)]
    return [Finding("port", Health.OK, f"{host}:{port} is free")]


def check_memory() -> list[Finding]:
    """Memory of the machine."""
    memory = psutil.virtual_memory()
    text = f"{gigabytes(memory.available)} of {gigabytes(memory.total)} free"
    if memory.available < MIN_FREE_MEMORY_BYTES:
        return [Finding("memory", Health.NOTE, f"{text}: the cache will be small")]
    return [Finding("memory", Health.OK, text)]


def check_terminal() -> list[Finding]:
    """Whether the dashboard can be drawn here, and how well."""
    if not sys.stdout.isatty():
        return [Finding("terminal", Health.OK, "not one; `stoker serve` needs none")]
    size = shutil.get_terminal_size()
    return [terminal_finding(os.environ.get("TERM", "unnamed"), size.columns, size.lines)]


def terminal_finding(name: str, columns: int, lines: int) -> Finding:
    """A terminal of some size, and how well the dashboard can be drawn on it."""
    colours = "no" if os.environ.get("NO_COLOR") else os.environ.get("COLORTERM") or "256"
    text = f"{name}, {columns}x{lines}, {colours} colours"
    if columns < MIN_COLUMNS or lines < MIN_LINES:
        hint = f"{text}: at least {MIN_COLUMNS}x{MIN_LINES} shows everything"
        return Finding("terminal", Health.NOTE, hint)
    return Finding("terminal", Health.OK, text)


def check_clients() -> list[Finding]:
    """The coding agents that ``stoker launch`` can start."""
    places = []
    for client in CLIENTS.values():
        program = shutil.which(client.program)
        places.append(program or f"no {client.program} (`{client.install_command}`)")
    return [Finding("clients", Health.OK, ", ".join(places))]


def check_claude_settings(settings: Settings) -> list[Finding]:
    """Settings files of Claude Code that send it elsewhere than ``stoker launch`` does."""
    found = overrides(claude_address(api_url(settings)), os.environ, Path.cwd())
    return [Finding("claude code", Health.NOTE, override.words) for override in found]


def gigabytes(num_bytes: int) -> str:
    """A size for people."""
    return f"{num_bytes / 10**9:.1f} GB"
