"""The index of a record set (`samples.parquet`) as arrays."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pipeline.build import measures
from pipeline.errors import UserError
from pipeline.records.contents import check_files
from pipeline.records.manifest import Manifest, read_manifest
from pipeline.records.reader import read_samples


@dataclass(frozen=True, kw_only=True, eq=False)
class Index:
    """The columns of `samples.parquet`: N samples, P people over all samples, J joints of the skeleton."""

    joints: tuple[str, ...]
    """Names of the joints of the skeleton."""
    insize: int
    """Side of a crop in pixels."""
    image_id: np.ndarray
    """int64 (N,)."""
    variant: np.ndarray
    """int32 (N,): number of the augmented variant, from 0."""
    license: np.ndarray
    """int32 (N,): id of the license in the annotation file."""
    people: np.ndarray
    """int32 (N,): target people of a sample."""
    mirrored: np.ndarray
    """bool (N,)."""
    row_bytes: np.ndarray
    """int64 (N,): size of a row."""
    width: np.ndarray
    """int32 (N,): of the original image in pixels."""
    height: np.ndarray
    """int32 (N,): of the original image in pixels."""
    masked: np.ndarray
    """float32 (N,): fraction of the cells that the ignore mask covers."""
    pixels: list[bytes]
    """Hash of the pixels of the original image."""
    affine: np.ndarray
    """float64 (N, 2, 3): from original pixels to crop pixels."""
    boxes: np.ndarray
    """float64 (P, 4): minimum x, y and maximum x, y of a person's labeled keypoints, in pixels of the original image."""
    person_joints: np.ndarray
    """int32 (P,): labeled keypoints of a person."""
    person_joints_inside: np.ndarray
    """int32 (P,): labeled keypoints of a person inside the crop."""
    labeled: np.ndarray
    """int32 (N, J): people with this keypoint labeled."""
    visible: np.ndarray
    """int32 (N, J): people with this keypoint labeled as visible."""
    cut: np.ndarray
    """int32 (N, J): people with this keypoint labeled, but outside the crop."""

    @property
    def num_images(self) -> int:
        """Number of original images."""
        return int(self.is_first.sum())

    @cached_property
    def is_first(self) -> np.ndarray:
        """bool (N,): samples of variant 0, which contain every image once."""
        return self.variant == 0

    @cached_property
    def scale(self) -> np.ndarray:
        """float64 (N,): scale of the affine transform from the original image to the crop."""
        # From the lower row of the matrix, because mirroring changes the upper row.
        return np.hypot(self.affine[:, 1, 0], self.affine[:, 1, 1])

    @cached_property
    def degrees(self) -> np.ndarray:
        """float64 (N,): rotation from the original image to the crop; positive angles turn clockwise."""
        return np.degrees(np.arctan2(self.affine[:, 1, 0], self.affine[:, 1, 1]))

    @cached_property
    def sample_of(self) -> np.ndarray:
        """int64 (P,): number of each person's sample."""
        return np.repeat(np.arange(len(self.people)), self.people)

    @cached_property
    def is_first_of_person(self) -> np.ndarray:
        """bool (P,): people of the samples of variant 0, which contain every person once."""
        return self.is_first[self.sample_of]

    @cached_property
    def diagonals_px(self) -> np.ndarray:
        """float64 (P,): diagonal of the box around the labeled keypoints, in pixels of the original image."""
        return np.hypot(*(self.boxes[:, 2:] - self.boxes[:, :2] + 1).T)

    @cached_property
    def crop_diagonals_px(self) -> np.ndarray:
        """float64 (P,): `diagonals_px` scaled to pixels of the crop."""
        return self.diagonals_px * self.scale[self.sample_of]

    @cached_property
    def is_inside(self) -> np.ndarray:
        """bool (P,): whether any labeled keypoint of the person is inside the crop."""
        return self.person_joints_inside > 0

    @property
    def pixels_digest(self) -> str:
        """SHA-256 over id and pixel hash of every image, in order."""
        digest = hashlib.sha256()
        for image_id, pixels, is_first in zip(self.image_id.tolist(), self.pixels, self.is_first.tolist(), strict=True):
            if is_first:
                digest.update(image_id.to_bytes(8, "little") + pixels)
        return digest.hexdigest()


def read_complete_manifest(folder: Path) -> Manifest:
    """Read the manifest of a record set and check that all files exist with their sizes. Raises UserError."""
    manifest = read_manifest(folder)
    if faults := check_files(folder, manifest, hashes=False):
        raise UserError(f"{folder}: {faults[0]}; run `python -m pipeline verify` for details")
    return manifest


def read_index(folder: Path, manifest: Manifest) -> Index:
    """Read `samples.parquet` of a record set.

    Raises UserError if the file is damaged or has invalid values, or if an older builder, which did not measure all columns, wrote it.
    """
    own = ["image_id", "variant", "license", "people", "affine", "mirrored", "bytes"]
    table = read_samples(folder, manifest, own + [name for name, _ in measures.FIELDS]).combine_chunks()

    def column(name: str) -> np.ndarray:
        return table[name].to_numpy(zero_copy_only=False)

    def flat(name: str) -> np.ndarray:
        """The values of a list column, concatenated."""
        return table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)

    joints = tuple(manifest.format.skeleton.joints)
    return Index(
        joints=joints,
        insize=manifest.format.targets.insize,
        image_id=column("image_id"),
        variant=column("variant"),
        license=column("license"),
        people=column("people"),
        mirrored=column("mirrored"),
        row_bytes=column("bytes"),
        width=column("width"),
        height=column("height"),
        masked=column("masked"),
        pixels=table["pixels"].to_pylist(),
        affine=flat("affine").reshape(-1, 2, 3),
        boxes=flat("boxes").reshape(-1, 4).astype(np.float64),
        person_joints=flat("person_joints"),
        person_joints_inside=flat("person_joints_inside"),
        labeled=flat("labeled").reshape(-1, len(joints)),
        visible=flat("visible").reshape(-1, len(joints)),
        cut=flat("cut").reshape(-1, len(joints)),
    )
