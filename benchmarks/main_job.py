"""How long the main job takes: whole processes, medians, and their peak memory.

    python benchmarks/main_job.py [--repeats 5] [--write benchmarks/results/main_job_<hardware>_<yyyymm>.md]

Times include the interpreter, every import and writing the run folder; the run folder goes to a temporary place.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JOBS = {
    "makespan --help": (["--help"], "0.25 s"),
    "makespan check examples/memphis-2024.yaml": (["check", "examples/memphis-2024.yaml"], "0.7 s"),
    "makespan plan examples/quickstart.yaml --by 2027-03-01": (
        ["plan", "examples/quickstart.yaml", "--by", "2027-03-01", "-o", "{out}"],
        "",
    ),
    "makespan plan examples/llama3-405b.yaml": (["plan", "examples/llama3-405b.yaml", "-o", "{out}"], ""),
    "makespan plan examples/memphis-2024.yaml --replicates 1000": (
        ["plan", "examples/memphis-2024.yaml", "--replicates", "1000", "-o", "{out}"],
        "10 s, 1 GB",
    ),
}


def measure(arguments: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident memory (bytes) of one process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "makespan", *(a.format(out=Path(folder) / "run") for a in arguments)]
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if os.waitstatus_to_exitcode(status) != 0:
            raise SystemExit(f"{' '.join(command)} failed")
        return seconds, usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = ["| what | target | median s | min to max s | peak MB |", "|---|---|--:|--:|--:|"]
    for name, (arguments, target) in JOBS.items():
        runs = [measure(arguments) for _ in range(options.repeats)]
        seconds = [run[0] for run in runs]
        memory = max(run[1] for run in runs)
        lines.append(
            f"| `{name}` | {target} | {statistics.median(seconds):.2f} | {min(seconds):.2f} to {max(seconds):.2f} "
            f"| {memory / 1e6:.0f} |"
        )
        print(lines[-1], flush=True)
    if options.write:
        head = (
            f"# Main job\n\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
            f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}, {options.repeats} runs each.\n\n"
            "Command: `python benchmarks/main_job.py --write ...`\n\n"
        )
        options.write.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
