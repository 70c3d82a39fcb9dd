"""Reading MATLAB 5 files with SciPy, which MindSpore requires."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.storage.files import require_regular

MAX_BYTES = 1 << 30


def read_mat(path: Path, name: str, what: str) -> Any:
    """Return the variable `name` of a MATLAB 5 file; structures as objects with attributes, see `fields`.

    Raises UserError naming the file and `what` was expected.
    """
    from scipy.io import loadmat  # takes a second to import

    try:
        require_regular(path)
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{what} {path}: {path.stat().st_size:,} bytes, at most {MAX_BYTES:,} are read")
        variables = loadmat(path, variable_names=[name], struct_as_record=False, squeeze_me=True)
    except OSError as error:
        raise UserError(f"{what} {path}: {error.strerror or error}") from error
    except UserError:
        raise
    except NotImplementedError as error:  # what SciPy raises for version 7.3, which is HDF5
        raise UserError(f"{what} {path}: a MATLAB 7.3 file; save it with -v7") from error
    except Exception as error:  # SciPy raises many kinds for a damaged file
        raise UserError(f"{what} {path}: not a MATLAB file that can be read: {str(error)[:200]}") from error
    if name not in variables:
        raise UserError(f"{what} {path}: has no variable {name!r}; give the original file")
    return variables[name]


def items(value: Any) -> Iterator[Any]:
    """Yield the elements of a MATLAB array, which SciPy squeezes: one element comes without an array, none as an empty array."""
    if isinstance(value, np.ndarray):
        yield from value.ravel()
    elif value is not None:
        yield value


def field(structure: Any, name: str) -> Any:
    """Return a field of a MATLAB structure; None if it is absent or empty."""
    value = getattr(structure, name, None)
    return None if isinstance(value, np.ndarray) and not value.size else value


def number(structure: Any, name: str) -> float | None:
    """Return a numeric field of a MATLAB structure; None if it is absent, empty or no number."""
    try:
        return float(field(structure, name))
    except (TypeError, ValueError):
        return None
