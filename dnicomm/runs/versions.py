"""What a run was computed with: a run is repeatable bit for bit only with the same versions."""

from __future__ import annotations

import platform
from importlib import metadata

PACKAGES = (
    "dnicomm",
    "torch",
    "numpy",
    "gymnasium",
    "pettingzoo",
    "hydra-core",
    "omegaconf",
    "safetensors",
    "scikit-learn",
)


def versions() -> dict[str, str]:
    """Versions by name, of Python and of those of :data:`PACKAGES` that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
