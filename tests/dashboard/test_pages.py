"""The pages over the main screen: doctor, capacity, settings."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from app.config import load_settings
from app.config_show import SettingRow
from app.dashboard.app import StokerApp
from app.dashboard.screens import machine_keys
from app.dashboard.screens.doctor import DoctorScreen
from app.dashboard.screens.settings import SettingsScreen
from app.dashboard.screenshots import still_app
from app.doctor import Finding, Health, Report
from app.doctor_run import DoctorFailedError, DoctorRun, setting_flags
from app.local_models import local_candidates
from app.paths import find_paths
from engine.models.bundled import bundled_folder
from styles.tokens import UNICODE
from tests.dashboard.driving import by_palette, dashboard, until
from tests.dashboard.screen_text import screen_text, toasts

SnapCompare = Callable[..., bool]
SIZES = pytest.mark.parametrize(
    "size", [(80, 24), (120, 40), (200, 60)], ids=["small", "medium", "large"]
)
FINDINGS = (
    Finding("python", Health.OK, "3.11.7 at /usr/bin/python3"),
    Finding("c compiler", Health.NOTE, "none found: install gcc, or the CPU stays slow"),
    Finding(
        "model", Health.BAD, "model 'x\x1b[2J/日本語\u202e' is not here; " + "available: y, " * 20
    ),
    Finding("port", Health.NOTE, "127.0.0.1:8000 cannot be had (Address already in use)"),
)
KNOWN = (Finding("port", Health.OK, "this Stoker listens on it"),)


class Fake:
    """Checks that come out as they are told, or never."""

    def __init__(self, report: Report | None, problem: str = "") -> None:
        self._report = report
        self._problem = problem
        self._over = threading.Event()
        self.is_given_up = False
        if report or problem:
            self._over.set()

    def report(self) -> Report:
        assert self._over.wait(10.0)
        if self._report is None:
            raise DoctorFailedError(self._problem or "given up")
        return self._report

    def give_up(self) -> None:
        self.is_given_up = True
        self._over.set()


def opened(screen: Any) -> Callable[[Pilot[Any]], Any]:
    async def run(pilot: Pilot[Any]) -> None:
        pilot.app.push_screen(screen)
        await pilot.pause(0.3)

    return run


@SIZES
def test_doctor(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    app, _ = still_app("busy")
    screen = DoctorScreen(lambda: Fake(Report(FINDINGS)), KNOWN, UNICODE)
    assert snap_compare(app, terminal_size=size, run_before=opened(screen))


def test_doctor_that_cannot_check(snap_compare: SnapCompare) -> None:
    app, _ = still_app("busy")
    screen = DoctorScreen(lambda: Fake(None, "the checks took more than 300 s"), (), UNICODE)
    assert snap_compare(app, terminal_size=(120, 40), run_before=opened(screen))


@SIZES
@pytest.mark.parametrize("keys", [["C"], ["C", "b", "plus"]], ids=["as-it-is", "what-if"])
def test_capacity(snap_compare: SnapCompare, keys: list[str], size: tuple[int, int]) -> None:
    app, _ = still_app("busy")
    assert snap_compare(app, press=keys, terminal_size=size)


@SIZES
def test_settings(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    rows = [SettingRow(name, str(row), "default") for row, name in enumerate(("host", "port"))]
    rows += [
        SettingRow("api_key", "(set, not shown)", "STOKER_API_KEY"),
        SettingRow("model", "日本語\x1b[2J" * 9, f"/srv/{'deep/' * 12}stoker.toml"),
    ]
    screen = SettingsScreen(rows, [("data_dir", "/home/dev/" + "x" * 90)], UNICODE)
    app, _ = still_app("busy")
    assert snap_compare(app, terminal_size=size, run_before=opened(screen))


async def test_the_checks_run_beside_the_screen_and_end_with_it() -> None:
    fake = Fake(None)
    async with dashboard() as (pilot, app, _):
        app.push_screen(DoctorScreen(lambda: fake, (), UNICODE))
        await until(pilot, lambda: "checking, 1 s" in screen_text(app))
        await pilot.press("escape")
        await until(pilot, lambda: fake.is_given_up)
        assert "agents" in screen_text(app)


async def test_a_key_checks_again() -> None:
    reports = [Report(FINDINGS), Report(FINDINGS[:1])]
    async with dashboard() as (pilot, app, _):
        app.push_screen(DoctorScreen(lambda: Fake(reports.pop(0)), (), UNICODE))
        await until(pilot, lambda: "put right what is marked" in screen_text(app))
        assert screen_text(app).index("model") < screen_text(app).index("c compiler")
        await pilot.press("r")
        await until(pilot, lambda: "all is well" in screen_text(app))


async def test_settings_tell_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_API_KEY", "very-secret")
    async with dashboard() as (pilot, app, _):
        await by_palette(pilot, "Settings and where they came from")
        await until(pilot, lambda: "(set, not shown)" in screen_text(app))
        assert "STOKER_API_KEY" in screen_text(app)
        assert "very-secret" not in screen_text(app)


async def test_a_settings_file_that_is_wrong_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOKER_PORT", "many")
    async with dashboard() as (pilot, app, _):
        await pilot.press("comma")
        await until(pilot, lambda: "must be a number" in " ".join(toasts(app)))


async def test_capacity_waits_for_a_model_and_stays_within_its_context() -> None:
    async with dashboard("loading") as (pilot, app, _):
        await pilot.press("C")
        await until(pilot, lambda: toasts(app) == ["no model is loaded yet"])
    async with dashboard() as (pilot, app, _):
        await pilot.press("C", "plus", "plus", "plus")
        await until(pilot, lambda: "8,192 tokens for each agent" in screen_text(app))
        await pilot.press(*["minus"] * 9)
        await until(pilot, lambda: "context     256 tokens for each agent" in screen_text(app))


async def test_other_models_of_this_machine_can_be_asked_for(
    bundled_models_dir: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, engine = still_app("busy")
    paths = find_paths()
    paths.models_dir.parent.mkdir(parents=True, exist_ok=True)
    paths.models_dir.symlink_to(str(bundled_models_dir))
    shown = engine.snapshot
    (bundled,) = local_candidates(shown, paths.models_dir)
    assert bundled.spec.bytes_per_token == 46_080
    assert shown.model_detail is not None
    folder = str(bundled_folder(paths.models_dir))
    running = dataclasses.replace(shown.model_detail, path=folder)
    running_here = dataclasses.replace(shown, model_detail=running)
    assert local_candidates(running_here, paths.models_dir) == []
    app = StokerApp(engine, address="127.0.0.1:8000", settings=load_settings({}))
    monkeypatch.setattr(machine_keys.MachineKeys, "_finder", lambda *_: lambda: [bundled])
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("C")
        await until(pilot, lambda: "(runs now)" in screen_text(app))
        await pilot.press("m")
        await until(pilot, lambda: "what the limit would leave" in screen_text(app))


def test_a_run_is_told_the_flags_of_this_one_and_can_be_given_up() -> None:
    settings = load_settings({"port": 9123, "kv_bits": "4"})
    assert setting_flags(settings) == ["--port=9123", "--kv-bits=4"]
    assert setting_flags(load_settings({})) == []
    run = DoctorRun(settings)
    run.give_up()
    with pytest.raises(DoctorFailedError, match="given up"):
        run.report()


def test_a_run_finds_what_the_command_finds() -> None:
    report = DoctorRun(load_settings({"port": 0})).report()
    assert {"python", "device", "model", "port"} <= {f.check for f in report.findings}
