"""What converting a model takes: seconds, and memory against the length of what comes out.

Usage: ``python -m benchmarks.conversion [--bits 8 4]``. Each conversion runs in a process of its
own, so that its peak is its own. Judging is not part of it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.cpu_profile import bundled_model
from benchmarks.results_file import write_result

_CHILD = "--child"


def _convert(bits: int) -> dict[str, Any]:
    """Converts in a child process and returns what it measured."""
    command = [sys.executable, "-m", "benchmarks.conversion", _CHILD, str(bits)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _measure(bits: int) -> dict[str, Any]:
    """Runs in the child: converts the bundled model into a folder that goes again."""
    import mlx.core as mx

    from engine.models.recipe import Recipe
    from engine.runtime.conversion import convert

    source = bundled_model()
    with tempfile.TemporaryDirectory() as folder:
        mx.reset_peak_memory()
        began_s = time.perf_counter()
        convert(source, Path(folder), Recipe(bits), lambda _share, _text: None)
        seconds = time.perf_counter() - began_s
        output = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    peak = mx.get_peak_memory()
    return {
        "bits": bits,
        "seconds": seconds,
        "output_bytes": output,
        "peak_array_bytes": peak,
        "peak_to_output": peak / output,
    }


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 4], metavar="BITS")
    parser.add_argument(_CHILD, type=int, dest="child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_measure(arguments.child)))
        return
    results = [_convert(bits) for bits in arguments.bits]
    for each in results:
        print(
            f"{each['bits']} bits: {each['seconds']:.1f} s, {each['output_bytes'] / 1e6:.0f} MB, "
            f"peak of arrays {each['peak_to_output']:.2f} times that"
        )
    print(write_result("conversion", {"conversions": results}))


if __name__ == "__main__":
    main()
