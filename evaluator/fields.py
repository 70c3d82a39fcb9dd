"""Stored fields in place of a network: an .npz file of heatmaps and PAFs by image id."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from evaluator.infer import Fields
from pipeline import geometry
from pipeline.cli import UserError

STRIDE_PX = 8  # part of the form


class StoredFields:
    """Arrays image_id int (N,), orig_wh and input_wh int (N, 2), hm_<id> float (J + 1, h, w) and paf_<id> float (2 L, h, w).

    orig_wh is the size of the image, input_wh the size to which it was resized for the network.
    """

    def __init__(self, path: Path) -> None:
        """Raises UserError for a file that is missing, damaged or of another form."""
        self.path = Path(path)
        self._arrays = self._open()
        ids, original, resized = (self._array(name) for name in ("image_id", "orig_wh", "input_wh"))
        shapes_fit = ids.ndim == 1 and original.shape == resized.shape == (len(ids), 2)
        if not shapes_fit or min(original.min(initial=1), resized.min(initial=1)) < 1:
            raise UserError(f"fields {path}: expected image_id (N,), orig_wh and input_wh (N, 2), sizes of at least one pixel")
        self.sizes = {int(i): (tuple(map(int, a)), tuple(map(int, b))) for i, a, b in zip(ids, original, resized, strict=True)}

    def _open(self):
        try:
            arrays = np.load(self.path, allow_pickle=False)
        except OSError as error:
            raise UserError(f"fields {self.path}: {error.strerror or error}") from error
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"fields {self.path}: not a whole .npz file ({error})") from error
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise UserError(f"fields {self.path}: one array (.npy), expected an .npz file of several")
        return arrays

    def _array(self, name: str) -> np.ndarray:
        try:
            return self._arrays[name]
        except KeyError as error:
            raise UserError(f"fields {self.path}: lacks the array {name}") from error
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"fields {self.path}: damaged at the array {name} ({error})") from error

    def require_images(self, image_ids: set[int], annotations: Path) -> None:
        """Raises UserError unless the fields are of just these images."""
        for whose, ids in (("the fields", image_ids - set(self.sizes)), ("the annotation file", set(self.sizes) - image_ids)):
            if ids:
                raise UserError(
                    f"fields {self.path} and annotation file {annotations} do not belong together: "
                    f"{len(ids)} images are missing in {whose}, such as {min(ids)}"
                )

    def load(self, image_id: int) -> Fields:
        """Fields of one image. Raises UserError where they are missing or damaged."""
        original, resized = self.sizes[image_id]
        matrix = geometry.resizing(resized[0] / original[0], resized[1] / original[1])
        return Fields(
            heatmaps=self._array(f"hm_{image_id}"),
            pafs=self._array(f"paf_{image_id}"),
            stride_px=STRIDE_PX,
            to_image=geometry.invert(matrix),
            size_wh=original,
        )
