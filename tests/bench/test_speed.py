"""``stoker bench speed`` and ``compare``, on real sockets."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.bench import speed
from app.bench.chart import chart, comparison, times_as_good
from app.bench.result import Measure, Result, read_result
from app.bench.run import Address, measure_own, measure_running
from app.bench.speed import Plan, decode_rate
from app.bench.streams import Answer
from app.cli import main
from benchmarks.soak import twin
from engine.errors import StokerError
from tests.bench.other_server import KEY, MODEL, PIECE_S, other_server

SMALL = Plan(rounds=2, prompt_tokens=(300, 4000), num_streams=(1, 3), decoded_tokens=20)


def silent(_share: float, _text: str) -> None:
    """Tells nobody."""


@pytest.fixture(autouse=True)
def few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "MIXED_WORDS", (5, 20))


def by_name(result: Result) -> dict[tuple[str, str], Measure]:
    return {(each.group, each.label): each for each in result.measures}


def test_a_server_that_is_no_stoker_is_measured_by_what_it_says() -> None:
    told: list[float] = []
    with other_server() as url:
        result = measure_running(Address(url, KEY), SMALL, lambda share, _: told.append(share))
    measures = by_name(result)
    assert result.model == MODEL
    # Every piece holds two tokens, as its usage says.
    rate = 2 / PIECE_S
    assert 0.3 * rate < measures["decode", "1 stream"].p50 < 1.05 * rate
    assert 0.9 * rate < measures["decode", "3 streams"].p50 < 3.15 * rate
    assert len(measures["prefill", "300 tokens"].samples) == 2
    assert ("time to first token, from disk", "300 tokens") not in measures
    assert not any(label == "4000 tokens" for _, label in measures)
    assert result.notes == [
        "4000 tokens: left out, they do not fit 1500",
        "from disk, restart and bytes: left out, the server is no Stoker",
    ]
    assert told == sorted(told)
    assert max(told) < 1


@pytest.mark.slow
def test_a_stoker_of_its_own_is_measured_in_every_state(
    stoker_home: Path, bundled_models_dir: Path, tmp_path: Path
) -> None:
    os.symlink(bundled_models_dir, stoker_home / "models")
    (bundled,) = (each for each in bundled_models_dir.iterdir() if (each / "config.json").is_file())
    plan = Plan(
        rounds=1,
        prompt_tokens=(300,),
        num_streams=(2,),
        decoded_tokens=8,
        swap_to=str(twin(bundled, tmp_path)),
    )
    measures = by_name(measure_own(["--decode-stall-ms=100"], plan, silent))
    states = ("cold", "hot", "from disk", "after a restart")
    waits = {state: measures[f"time to first token, {state}", "300 tokens"].p50 for state in states}
    assert waits["hot"] < waits["cold"]
    assert waits["after a restart"] < waits["cold"]
    assert measures["decode", "2 streams"].p50 > 0
    assert measures["change of model", f"to {plan.swap_to}"].p50 > 0
    assert measures["change of model", "and back"].p50 > 0
    assert measures["KV cache in memory, each token", "300 tokens"].p50 > 10
    assert len(measures["start", "from the command to the first turn"].samples) == 2
    # Nothing of it is left where the user's own Stoker keeps its things.
    assert [each.name for each in stoker_home.iterdir()] == ["models"]


def test_a_refusal_is_passed_on_in_the_server_s_words() -> None:
    with (
        other_server(refuses_chat=True) as url,
        pytest.raises(StokerError, match="not today"),
    ):
        measure_running(Address(url, KEY), SMALL, silent)


def test_two_servers_are_compared_and_both_results_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "result.json"
    with other_server() as first, other_server() as second:
        urls = ["--url", first, "--url", second, "--key", KEY, "--key", KEY]
        status = main(["bench", "speed", "--quick", *urls, "--save", str(path)])
    assert status == 0
    shown = capsys.readouterr().out
    assert f"1: {MODEL} at {first}" in shown
    assert f"2: {MODEL} at {second}" in shown
    assert "8 streams" in shown
    paths = [str(path), str(tmp_path / "result-2.json")]
    assert main(["bench", "compare", *paths]) == 0
    assert shown.endswith(capsys.readouterr().out)


def test_json_is_what_was_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "result.json"
    with other_server() as url:
        main(
            ["bench", "speed", "--quick", "--url", url, "--key", KEY, "--json", "--save", str(path)]
        )
    assert json.loads(capsys.readouterr().out) == json.loads(path.read_text())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--url", "a", "--url", "b", "--url", "c"], "2 times at most"),
        (["--key", "k"], "goes with a --url each"),
        (["--rounds", "0"], "between 1 and 100"),
        (["--save", "/nowhere/at/all.json"], "no folder /nowhere/at"),
        (["--url", "ftp://x"], "is no address"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_measured(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["bench", "speed", *arguments])
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    assert status == 1
    assert words in capsys.readouterr().err


def test_a_result_that_is_there_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r-2.json").write_text("mine")
    arguments = ["--url", "a", "--url", "b", "--save", str(tmp_path / "r.json")]
    assert main(["bench", "speed", *arguments]) == 1
    assert "r-2.json is there already" in capsys.readouterr().err
    assert (tmp_path / "r-2.json").read_text() == "mine"


def a_result(**p50: float) -> Result:
    measures = [
        Measure(group=name, label="x", unit="s", samples=(value,), more_is_better=name == "decode")
        for name, value in p50.items()
    ]
    return Result(server="s", model="m", machine={}, measures=measures, notes=["a note"])


def test_better_is_more_or_less_as_the_measure_says() -> None:
    ours, theirs = a_result(decode=30.0, cold=2.0), a_result(decode=20.0, cold=3.0)
    ratios = [times_as_good(*pair) for pair in zip(ours.measures, theirs.measures, strict=True)]
    assert ratios == [1.5, 1.5]
    shown = comparison(ours, theirs)
    assert shown.count("1.50x") == 2
    assert "1: a note" in shown
    assert times_as_good(ours.measures[0], a_result(decode=0.0).measures[0]) is None


def test_results_without_a_common_measure_say_so() -> None:
    assert "no measure in common" in comparison(a_result(decode=1.0), a_result(cold=1.0))


def test_bars_are_as_long_as_the_largest_of_their_group() -> None:
    measures = [
        Measure(group="g", label=name, unit="s", samples=(value,), more_is_better=True)
        for name, value in (("whole", 8.0), ("half", 4.0), ("none", 0.0))
    ]
    result = Result(server="s\x1b[2J", model="m", machine={}, measures=measures)
    lines = {line.split()[0]: line for line in chart(result).splitlines() if line}
    assert lines["whole"].count("█") == 2 * lines["half"].count("█") == 32
    assert lines["none"].count("█") == 0
    assert "\x1b" not in chart(result)


def test_percentiles_lie_between_samples() -> None:
    measure = Measure(
        group="g", label="l", unit="s", samples=(4.0, 1.0, 3.0, 2.0), more_is_better=False
    )
    assert measure.p50 == 2.5
    assert measure.percentile(1.0) == 4.0
    assert measure.percentile(0.95) == pytest.approx(3.85)


def test_only_the_time_in_which_all_streams_generate_counts() -> None:
    early = Answer(pieces_s=[0.0, 1.0, 2.0, 3.0], num_tokens=4)
    late = Answer(pieces_s=[1.0, 2.0, 3.0, 4.0], num_tokens=8)
    assert decode_rate([early, late]) == pytest.approx((2 + 4) / 2)
    assert decode_rate([early, Answer(pieces_s=[5.0], num_tokens=1)]) == 0.0


def test_a_result_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    result = a_result(decode=3.0, cold=1.0)
    path.write_text(result.to_json())
    again = read_result(path)
    assert again.to_json() == result.to_json()


def _edit(change: Callable[[dict[str, Any]], object]) -> str:
    data = json.loads(a_result(decode=3.0).to_json())
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        _edit(lambda data: data.update(format="stoker-bench/9")),
        _edit(lambda data: data["measures"][0].update(samples=[])),
        _edit(lambda data: data["measures"][0].update(samples=["x"])),
        _edit(lambda data: data.pop("notes")),
    ],
)
def test_another_file_is_no_result(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    assert main(["bench", "compare", str(path), str(path)]) == 1
    assert str(path) in capsys.readouterr().err
