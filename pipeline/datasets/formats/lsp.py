"""Leeds Sports Pose and LSP-Extended: `joints.mat` and images/im00001.jpg, … (four digits in LSP).

From the README of the archive (http://sam.johnson.io/research/lspet.html) and the arrays themselves: variable `joints`, float64
(14, 3, N) in LSP-Extended and (3, 14, N) in LSP; image number n + 1 belongs to entry n. Rows x, y, flag. Joints: right ankle, knee,
hip, left hip, knee, ankle, right wrist, elbow, shoulder, left shoulder, elbow, wrist, neck, head top; left and right are the
person's. One person is labeled in each image; others are not.

Flags. LSP-Extended: 1 = visible -> 2. 0 = not visible -> 0: such joints have coordinates without meaning, many outside the image.
LSP: 0 = visible -> 2, 1 = hidden -> 1; hidden joints are located, too. Coordinates are taken as they are: the READMEs do not say from
where pixels are counted.
"""

import numpy as np

from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.matlab import read_mat
from pipeline.datasets.formats.people import Person, Request, Source, SourceImage
from pipeline.errors import UserError

NUM_JOINTS = 14


def read(request: Request, faults: Faults) -> Source:
    """Read LSP or LSP-Extended. Raises UserError for another file."""
    path = request.source / "joints.mat" if request.source.is_dir() else request.source
    joints = read_mat(path, "joints", "LSP file")
    if not isinstance(joints, np.ndarray) or joints.dtype.kind not in "fiu" or joints.ndim not in (2, 3):
        raise UserError(f"LSP file {path}: joints must be an array of numbers (14, 3, N) or (3, 14, N)")
    joints = joints[..., None] if joints.ndim == 2 else joints
    if joints.shape[:2] == (NUM_JOINTS, 3):
        keypoints = joints.transpose(2, 0, 1).astype(np.float64)
        keypoints[..., 2] = np.where(keypoints[..., 2] == 1, 2, 0)
        digits = 5
    elif joints.shape[:2] == (3, NUM_JOINTS):
        keypoints = joints.transpose(2, 1, 0).astype(np.float64)
        keypoints[..., 2] = np.where(keypoints[..., 2] == 1, 1, 2)
        digits = 4
    else:
        raise UserError(f"LSP file {path}: joints must have shape (14, 3, N) or (3, 14, N), got {joints.shape}")
    folder = request.image_folder(path.parent)
    images = []
    for number, points in enumerate(keypoints, 1):
        name = f"im{number:0{digits}}.jpg"
        images.append(
            SourceImage(
                name=name, file=folder / name, id=number, people=[Person(where=f"joints(:, :, {number})", keypoints=points)]
            )
        )
    return Source(images=images, notes=("one person per image is labeled",), labels_everyone=False)
