"""Before the first step: do all ranks train the same network, on the same records, with the same options and the same code?

Ranks that differ would train together without an error and produce weights of no run. One collective finds out.
"""

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError
from trainer.distributed.world import World

MAX_NAMED = 5
MAX_FACTS = 255  # the same table on all ranks, also if one runs another version of the code with more options
_DIGITS, _BITS = 2, 16  # a hash travels as two float32 numbers below 2^16: a CPU reduces only floats, exact up to 2^24


def require_agreement(world: World, facts: Mapping[str, Any]) -> None:
    """Raise UserError, naming rank and field, unless `facts` (by name, with printable values) are the same on all ranks."""
    import mindspore as ms

    table = np.zeros((world.size, 1 + MAX_FACTS, _DIGITS), np.float32)
    table[world.rank, : 1 + len(facts)] = [_digits("\n".join(facts)), *(_digits(value) for value in facts.values())]
    table = world.summing()(ms.Tensor(table)).asnumpy()
    differs = (table != table[:1]).any(axis=2)
    if differs[:, 0].any():  # other names: the values belong to different fields
        differs[:, 1:] = False
    differing = np.argwhere(differs)
    if not len(differing):
        return
    names = ["the names of the options (another version of the code)", *facts]
    problems = [f"rank {rank} differs from rank 0 in {names[field]}" for rank, field in differing.tolist()]
    here = [
        f"{name} is {facts[name]}" for name in dict.fromkeys(names[field] for _, field in differing.tolist()) if name in facts
    ]
    own = f" On rank {world.rank}, {', '.join(here[:MAX_NAMED])}." if here else ""
    more = f" (and {len(problems) - MAX_NAMED} more)" if len(problems) > MAX_NAMED else ""
    raise UserError(
        f"the ranks do not agree: {'; '.join(problems[:MAX_NAMED])}{more}.{own} Start all hosts with the same options, records, "
        "checkpoint and code"
    )


def _digits(value: Any) -> list[int]:
    number = zlib.crc32(str(value).encode())
    return [number & ((1 << _BITS) - 1), number >> _BITS]


def code_digest(packages: Iterable[Path]) -> str:
    """Return a hash of all Python files of some package folders."""
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted(package.rglob("*.py")):
            digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def weights_crc32(arrays: Iterable[np.ndarray]) -> int:
    """Return the CRC32 of all weights."""
    crc = 0
    for array in arrays:
        crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
    return crc
