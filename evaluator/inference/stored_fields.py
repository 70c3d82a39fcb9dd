"""Stored fields in place of a network: an .npz file of heatmaps and PAFs by image id."""

import contextlib
import io
import itertools
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from evaluator.decoding import DecodeConfig, People
from evaluator.inference.fields import Fields, find_people_or_fail
from evaluator.inference.streaming import ahead
from pipeline import geometry
from pipeline.datasets.coco import Image
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton

STRIDE_PX = 8  # part of the form
LOADED_AHEAD = 8  # images


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
            return _parse_array(self._arrays.zip.read(f"{name}.npy"))
        except KeyError as error:
            raise UserError(f"fields {self.path}: lacks the array {name}") from error
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"fields {self.path}: damaged at the array {name} ({error})") from error

    def require_images(self, images: Sequence[Image], annotations: Path) -> None:
        """Raises UserError unless the fields are of just these images of an annotation file, and of their sizes."""
        image_ids = {image.id for image in images}
        for whose, ids in (("the fields", image_ids - set(self.sizes)), ("the annotation file", set(self.sizes) - image_ids)):
            if ids:
                raise UserError(
                    f"fields {self.path} and annotation file {annotations} do not belong together: "
                    f"{len(ids)} images are missing in {whose}, such as {min(ids)}"
                )
        for image in images:
            size = image.size_wh
            if self.sizes[image.id][0] != size:
                raise UserError(
                    f"fields {self.path} and annotation file {annotations} do not belong together: image {image['id']} is "
                    f"{self.sizes[image['id']][0]} pixels (width, height) in the fields, {size} in the annotation file"
                )

    def load(self, image_id: int) -> Fields:
        """Fields of one image. Raises UserError where they are missing or damaged."""
        original, resized = self.sizes[image_id]
        matrix = geometry.resizing(resized[0] / original[0], resized[1] / original[1])
        return Fields(
            heatmaps=_single(self._array(f"hm_{image_id}")),
            pafs=_single(self._array(f"paf_{image_id}")),
            stride_px=STRIDE_PX,
            to_image=geometry.invert(matrix),
            size_wh=original,
        )


def _parse_array(data: bytes) -> np.ndarray:
    """The bytes of an .npy file -> an array on them. numpy's own reader takes a third longer, for it copies piece by piece."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    shape, columns_first, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise ValueError("holds Python objects")
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if columns_first else "C")


def _single(array: np.ndarray) -> np.ndarray:
    """float32 of float16, exactly, by the CPU's own instruction, ten times as fast as numpy's; others as they are."""
    if array.dtype != np.float16 or not array.size:
        return array
    return cv2.convertFp16(np.ascontiguousarray(array).view(np.int16).reshape(1, -1)).reshape(array.shape)


def decode_stored(
    stored: StoredFields, groups: Sequence[Sequence[Image]], skeleton: Skeleton, config: DecodeConfig
) -> Iterator[list[tuple[Image, People]]]:
    """The people of stored fields, group by group of images (entries of an annotation file).

    A thread loads ahead: decompressing, the larger part of the work, leaves Python to this one. (Several processes take longer
    on two cores: what they start and send costs more than it saves.) Raises UserError naming the image whose fields are
    missing, damaged, of another shape or not finite.
    """
    images = (image for group in groups for image in group)
    with contextlib.closing(ahead(((image, stored.load(image.id)) for image in images), LOADED_AHEAD)) as loaded:
        for group in groups:
            yield [
                (image, find_people_or_fail(fields, skeleton, config, image.file_name))
                for image, fields in itertools.islice(loaded, len(group))
            ]
