"""Stored fields: an .npz file with the heatmaps and PAFs of each image, evaluated in place of a network."""

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
from evaluator.inference.sizes import Size
from evaluator.inference.streaming import prefetch
from pipeline import geometry
from pipeline.datasets.coco_entries import Image
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton

STRIDE_PX = 8  # fixed by the format
PREFETCH = 8  # images


class StoredFields:
    """Reader of an .npz file of fields.

    Its arrays are image_id int (N,), orig_wh and input_wh int (N, 2), and for each image hm_<id> float (J + 1, h, w) and
    paf_<id> float (2 L, h, w). orig_wh is the size of the image, input_wh the size to which it was resized for the network.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Raises UserError if it is missing, damaged or has another format."""
        self.path = Path(path)
        self._arrays = self._open()
        ids, original, resized = (self._array(name) for name in ("image_id", "orig_wh", "input_wh"))
        shapes_match = ids.ndim == 1 and original.shape == resized.shape == (len(ids), 2)
        if not shapes_match or min(original.min(initial=1), resized.min(initial=1)) < 1:
            raise UserError(
                f"fields {path}: expected image_id of shape (N,), orig_wh and input_wh of shape (N, 2) and sizes of at least "
                "1 pixel; write the file again"
            )
        self.sizes: dict[int, tuple[Size, Size]] = {
            int(i): ((int(a[0]), int(a[1])), (int(b[0]), int(b[1]))) for i, a, b in zip(ids, original, resized, strict=True)
        }
        """Original and resized (width, height) by image id."""

    def _open(self) -> np.lib.npyio.NpzFile:
        try:
            arrays = np.load(self.path, allow_pickle=False)
        except OSError as error:
            raise UserError(f"fields {self.path}: {error.strerror or error}") from error
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"fields {self.path}: truncated, damaged or not an .npz file ({error}); write it again") from error
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise UserError(f"fields {self.path}: a single array (.npy); expected an .npz file")
        return arrays

    def _array(self, name: str) -> np.ndarray:
        try:
            return _parse_array(self._arrays.zip.read(f"{name}.npy"))
        except KeyError as error:
            raise UserError(f"fields {self.path}: array {name} is missing; write the file again") from error
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"fields {self.path}: array {name} is damaged ({error}); write the file again") from error

    def require_images(self, images: Sequence[Image], annotations: Path) -> None:
        """Raise UserError unless the file holds exactly these images of an annotation file, at the same sizes."""
        mismatch = f"fields {self.path} do not match annotation file {annotations}"
        image_ids = {image.id for image in images}
        for where, ids in (("the fields", image_ids - set(self.sizes)), ("the annotation file", set(self.sizes) - image_ids)):
            if ids:
                raise UserError(f"{mismatch}: images missing from {where}: {len(ids)}, for example image {min(ids)}")
        for image in images:
            size = self.sizes[image.id][0]
            if size != image.size_wh:
                raise UserError(
                    f"{mismatch}: the size (width, height) of image {image.id} is {size} in the fields, but {image.size_wh} in "
                    "the annotation file"
                )

    def load(self, image_id: int) -> Fields:
        """Load the fields of one image. Raises UserError if they are missing or damaged."""
        original, resized = self.sizes[image_id]
        matrix = geometry.resizing(resized[0] / original[0], resized[1] / original[1])
        return Fields(
            heatmaps=_single_precision(self._array(f"hm_{image_id}")),
            pafs=_single_precision(self._array(f"paf_{image_id}")),
            stride_px=STRIDE_PX,
            to_image=geometry.invert(matrix),
            size_wh=original,
        )


def _parse_array(data: bytes) -> np.ndarray:
    """View the bytes of an .npy file as an array. NumPy's own reader copies in chunks and takes a third longer."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise ValueError("Python objects are not allowed")
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran_order else "C")


def _single_precision(array: np.ndarray) -> np.ndarray:
    """Convert float16 to float32 with OpenCV, ten times as fast as NumPy; return other arrays unchanged."""
    if array.dtype != np.float16 or not array.size:
        return array
    return cv2.convertFp16(np.ascontiguousarray(array).view(np.int16).reshape(1, -1)).reshape(array.shape)


def decode_stored(
    stored: StoredFields, groups: Sequence[Sequence[Image]], skeleton: Skeleton, config: DecodeConfig
) -> Iterator[list[tuple[Image, People]]]:
    """Decode stored fields, one group of images at a time.

    A thread loads ahead: decompression is most of the work and releases the GIL. (On two cores, several processes take longer
    than that.) Raises UserError naming the image if its fields are missing, damaged, have a wrong shape or are not finite.
    """
    images = (image for group in groups for image in group)
    with contextlib.closing(prefetch(((image, stored.load(image.id)) for image in images), PREFETCH)) as loaded:
        for group in groups:
            yield [
                (image, find_people_or_fail(fields, skeleton, config, image.file_name))
                for image, fields in itertools.islice(loaded, len(group))
            ]
