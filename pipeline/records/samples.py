"""Check the columns of samples.parquet that are read, so that no other code meets values that no build writes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import UserError
from pipeline.records.manifest import MANIFEST, REPAIR, Manifest
from pipeline.wording import counted

_KINDS = {
    "an integer": pa.types.is_signed_integer,
    "a number": pa.types.is_floating,
    "true or false": pa.types.is_boolean,
    "a hash": pa.types.is_fixed_size_binary,
}
_MAX_INT, _MAX_COUNT, _MAX_SIDE_PX = 2**63 - 1, 2**31 - 1, 65_535
# Far above every coordinate and scale of a build; products of both fit into 64-bit integers.
_MAX_PX, _MAX_AFFINE = 1_000_000, 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """What a column contains: one value per row, or a list of `each` values, or of `each` values per person (`per_person`)."""

    kind: str
    low: int | None = None
    high: int | None = None
    each: int | None = None
    per_person: bool = False
    counts_people: bool = False
    """Whether no value exceeds the people of its row."""


def _rules(manifest: Manifest) -> dict[str, _Rule]:
    """Return the rules of all columns that are read by name; `people` precedes the columns that depend on it."""
    num_joints = len(manifest.format.skeleton.joints)
    side = _Rule(kind="an integer", low=1, high=_MAX_SIDE_PX)
    of_person = _Rule(kind="an integer", low=0, high=num_joints, each=1, per_person=True)
    of_joint = _Rule(kind="an integer", low=0, high=_MAX_COUNT, each=num_joints, counts_people=True)
    return {
        "image_id": _Rule(kind="an integer", low=0, high=_MAX_INT),
        "variant": _Rule(kind="an integer", low=0, high=manifest.num_variants - 1),
        "license": _Rule(kind="an integer"),
        "people": _Rule(kind="an integer", low=0, high=_MAX_COUNT),
        "affine": _Rule(kind="a number", low=-_MAX_AFFINE, high=_MAX_AFFINE, each=6),
        "mirrored": _Rule(kind="true or false"),
        "bytes": _Rule(kind="an integer", low=1, high=_MAX_INT),
        "width": side,
        "height": side,
        "pixels": _Rule(kind="a hash"),
        "boxes": _Rule(kind="a number", low=-_MAX_PX, high=_MAX_PX, each=4, per_person=True),
        "person_joints": of_person,
        "person_joints_inside": of_person,
        "labeled": of_joint,
        "visible": of_joint,
        "cut": of_joint,
        "masked": _Rule(kind="a number", low=0, high=1),
    }


def require_valid(path: Path, table: pa.Table, manifest: Manifest, columns: Iterable[str]) -> None:
    """Check the number of rows and the named columns of samples.parquet: types, nulls, lengths of lists and ranges.

    path: named in errors. columns: with `people` if any of them has values per person. Raises UserError that names the file, the
    column and the first faulty row, from 0.
    """
    of_shards = sum(shard.num_rows for shard in manifest.shards)
    if not len(table) == manifest.num_samples == of_shards:
        raise UserError(
            f"{path}: {counted(len(table), 'row')}, but {MANIFEST} lists {counted(manifest.num_samples, 'sample')} and shards with "
            f"{counted(of_shards, 'row')}; {REPAIR}"
        )
    if not len(table):
        raise UserError(f"{path}: no rows; {REPAIR}")
    wanted = set(columns)
    for name, rule in _rules(manifest).items():
        if name not in wanted:
            continue
        try:
            _check_column(table, name, rule)
        except ValueError as error:
            raise UserError(f"{path}: column `{name}`{error}; {REPAIR}") from error
    if "variant" in wanted:
        rows = np.bincount(table["variant"].to_numpy(), minlength=manifest.num_variants)
        for variant in np.flatnonzero(rows != manifest.num_images)[:1].tolist():
            raise UserError(
                f"{path}: column `variant`: {counted(int(rows[variant]), 'row')} of variant {variant}, but {MANIFEST} lists "
                f"{counted(manifest.num_images, 'image')}; {REPAIR}"
            )


def _check_column(table: pa.Table, name: str, rule: _Rule) -> None:
    """Raise ValueError with the continuation of "column `name`" if the column breaks its rule."""
    column = table[name].combine_chunks()
    is_list = pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)
    item_type = column.type.value_type if is_list else column.type
    if is_list != (rule.each is not None) or not _KINDS[rule.kind](item_type):
        raise ValueError(f": type {column.type}, expected {'lists, each item ' if rule.each else ''}{rule.kind}")
    _require_none(column.is_null(), lambda row: f", row {row}: null, expected {'a list' if is_list else rule.kind}")
    rows = np.arange(len(column))
    if rule.each is not None:
        lengths = pc.list_value_length(column).to_numpy()
        expected = table["people"].to_numpy().astype(np.int64) * rule.each if rule.per_person else np.full(len(column), rule.each)
        _require_none(
            lengths != expected, lambda row: f", row {row}: {counted(int(lengths[row]), 'value')}, expected {expected[row]:,}"
        )
        rows, column = np.repeat(rows, lengths), column.flatten()
        _require_none(column.is_null(), lambda item: f", row {rows[item]}: null in the list, expected {rule.kind}")
    if rule.low is None:
        return
    values = column.to_numpy(zero_copy_only=False)
    high = table["people"].to_numpy()[rows] if rule.counts_people else np.full(len(rows), rule.high)
    is_inside = (values >= rule.low) & (values <= high)  # false for NaN
    _require_none(
        ~is_inside, lambda item: f", row {rows[item]}: {values[item]:,}, expected {rule.kind} from {rule.low:,} to {high[item]:,}"
    )


def _require_none(faulty: pa.Array | np.ndarray, describe: Callable[[int], str]) -> None:
    """Raise ValueError(describe(i)) for the first i where `faulty`, bool (N,), is true."""
    for item in np.flatnonzero(np.asarray(faulty))[:1].tolist():
        raise ValueError(describe(item))
