"""A self-test that was passed is not run again, until what it proved may have changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from engine.cache.quantisation import KVQuantisation
from engine.runtime import cpu, fitting, selftest_record, split_attention
from engine.runtime.device import DeviceProfile
from engine.runtime.loader import LoadedModel, load
from engine.runtime.ragged import ragged_layers
from engine.runtime.selftest import self_test
from engine.runtime.selftest_record import FOLDER_NAME, PassedTest, SelfTestRecords
from tests.runtime.tiny_models import CONFIGS, make_tiny_model

Load = Callable[..., LoadedModel]
WIDE_HEADS = {"head_dim": 32}
"""So wide that groups of levels fit them."""
PROMPTS = ((5, 6, 7, 8, 9), (40, 41))


@pytest.fixture
def num_tests(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the self-tests that are run, in its one entry."""
    counted = [0]

    def test(*args: object) -> object:
        counted[0] += 1
        return self_test(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(fitting, "self_test", test)
    monkeypatch.setattr("engine.runtime.selftest.self_test", test)
    return counted


@pytest.fixture
def load_tiny(tmp_path: Path) -> Load:
    """Loads a tiny model, with its records beside it."""

    def load_it(
        name: str, quantisation: KVQuantisation | None = None, device: str = "a chip"
    ) -> LoadedModel:
        folder = tmp_path / name
        if not folder.exists():
            folder.mkdir()
            changes = WIDE_HEADS if name == "llama" else {}
            weights = dict(tree_flatten(make_tiny_model(name, **changes).parameters()))
            mx.save_safetensors(str(folder / "model.safetensors"), weights)
            (folder / "config.json").write_text(json.dumps({**CONFIGS[name], **changes}))
        try:
            return load(
                folder,
                DeviceProfile(description=device),
                lambda share, text: None,
                quantisation,
                SelfTestRecords(tmp_path, name),
            )
        finally:
            cpu.uninstall()

    return load_it


def batch_logits(model: LoadedModel) -> NDArray[np.float32]:
    """What one decode step of a ragged batch gives."""
    caches = [model.runner.new_cache() for _ in PROMPTS]
    for cache, prompt in zip(caches, PROMPTS, strict=True):
        model.runner.prefill(cache, prompt)
    logits = model.runner.model(mx.array([[7], [7]]), cache=ragged_layers(caches))
    return np.array(logits.astype(mx.float32))


def test_the_second_load_of_a_model_tests_nothing(load_tiny: Load, num_tests: list[int]) -> None:
    first = load_tiny("llama")
    assert num_tests[0]
    num_tests[0] = 0
    second = load_tiny("llama")
    assert num_tests[0] == 0
    assert (second.batches, second.restores) == (first.batches, first.restores) == (True, True)
    assert second.notes == first.notes


def test_split_attention_is_set_up_again_from_the_record(
    load_tiny: Load, num_tests: list[int]
) -> None:
    expected = batch_logits(load_tiny("gemma2"))
    num_tests[0] = 0
    second = load_tiny("gemma2")
    assert num_tests[0] == 0
    assert second.batches
    assert any("sequence by sequence" in note for note in second.notes)
    np.testing.assert_array_equal(batch_logits(second), expected)
    split_attention.uninstall()
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(batch_logits(second), expected)


def test_another_way_of_running_it_is_tested_for_itself(
    load_tiny: Load, num_tests: list[int]
) -> None:
    quantisation = KVQuantisation(8, 32)
    load_tiny("llama")
    for change in ({"quantisation": quantisation}, {"device": "another chip"}):
        num_tests[0] = 0
        load_tiny("llama", **change)
        assert num_tests[0]
    num_tests[0] = 0
    again = load_tiny("llama", quantisation)
    assert again.quantisation == quantisation
    load_tiny("llama")
    assert num_tests[0] == 0


def test_another_version_of_the_engine_tests_again(
    load_tiny: Load, num_tests: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_tiny("llama")
    num_tests[0] = 0
    monkeypatch.setattr(selftest_record, "engine_version", lambda: "a later one")
    load_tiny("llama")
    assert num_tests[0]


def test_a_test_that_failed_is_run_again(
    load_tiny: Load, num_tests: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("engine.runtime.selftest.RELATIVE_TOLERANCE", -1.0)
        assert not load_tiny("llama").batches
    num_tests[0] = 0
    assert load_tiny("llama").batches
    assert num_tests[0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace("true", '"yes"'),
        lambda text: text.replace('"restores"', '"other"'),
        lambda text: "[" * 100_000,
    ],
)
def test_a_damaged_record_is_no_record(damage: Callable[[str], str], tmp_path: Path) -> None:
    records = SelfTestRecords(tmp_path, "a")
    passed = PassedTest(restores=True, splits_attention=False, reasons=("slow",))
    records.keep(("cpu",), passed)
    assert records.find(("cpu",)) == passed
    path = tmp_path / FOLDER_NAME / "a.json"
    path.write_text(damage(path.read_text()))
    assert records.find(("cpu",)) is None
    records.keep(("cpu",), passed)
    assert records.find(("cpu",)) == passed


def test_a_record_that_cannot_be_written_stops_no_load(
    tmp_path: Path, num_tests: list[int], load_tiny: Load
) -> None:
    (tmp_path / FOLDER_NAME).write_text("in the way")
    assert load_tiny("llama").batches
