"""The command `check-device`: compare a device with a CPU, and measure it."""

import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.cli import flatten
from pipeline.errors import UserError
from pipeline.runtime.progress import progress_bar
from pipeline.storage.files import write_json
from trainer.commands.check_device_config import CheckDeviceConfig
from trainer.commands.device_checks import CHECKS, Outcome


def run(config: CheckDeviceConfig) -> int:
    """Run the command `check-device`. Returns 1 if a check failed."""
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="check-device-") as folder:
        for name in progress_bar([name for name in CHECKS if name in config.only], desc="checks", unit="check"):
            started_s = time.monotonic()
            try:
                if any(result["check"] == "versions" and result["status"] == "FAIL" for result in results):
                    outcomes = [Outcome(name=name, status="skipped", figure="needs a device that passes the check versions")]
                else:
                    outcomes = list(CHECKS[name](config, Path(folder)))
            except UserError as error:
                outcomes = [Outcome(name=name, status="FAIL", figure=str(error))]
            seconds = time.monotonic() - started_s
            print("\n".join(outcome.line() for outcome in outcomes), flush=True)
            results += [{**asdict(outcome), "check": name, "check_seconds": round(seconds, 1)} for outcome in outcomes]
    failed = any(result["status"] == "FAIL" for result in results)
    if config.json is not None:
        write_json(config.json, {"ok": not failed, "options": flatten(config), "results": results})
    return int(failed)
