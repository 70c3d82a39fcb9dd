"""Options of the command `verify`. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Hash every file of a record set and decode every row. Lists all faults and exits with 1 if there are any.

    Example: python -m pipeline verify records
    """

    records: Annotated[Path, tyro.conf.Positional]
    """Record set made by `build`."""
    jobs: int = -1
    """Number of processes; -1 = one per core."""
    json: Path | None = None
    """Also write what was found to this file: `ok`, `faults`, and numbers of samples and shards."""

    def __post_init__(self) -> None:
        if self.jobs == 0 or self.jobs < -1:
            raise ValueError(f"jobs must be -1 (one per core) or at least 1, got {self.jobs}")
