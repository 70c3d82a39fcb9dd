"""The people of videos in the layout of COCO's annotation files, with the fields of PoseTrack21 and CocoVID.

`python -m pipeline synthesize --video` writes ground truth in the same layout.
"""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypedDict

from evaluator.predict.prediction import PERSON_CATEGORY, Prediction
from pipeline.skeleton import Skeleton
from pipeline.storage.documents import Id, convert, read_json

NAME = "videos.json"


class _Entry(TypedDict):
    id: Id


class _Frame(_Entry):
    video_id: Id


class _Annotation(_Entry):
    image_id: Id


class _Document(TypedDict):
    """What is used of videos.json."""

    videos: list[_Entry]
    images: list[_Frame]
    annotations: list[_Annotation]


class CocoVideo(AbstractContextManager):
    """Writes videos.json frame by frame. Its annotations go to a file of their own first, so that memory stays bounded."""

    def __init__(self, folder: Path, skeleton: Skeleton) -> None:
        self._path, self._skeleton = folder / NAME, skeleton
        self._videos: list[dict[str, Any]] = []
        self._images = (folder / f"{NAME}.images").open("w+", encoding="utf-8")
        self._annotations = (folder / f"{NAME}.annotations").open("w+", encoding="utf-8")
        self._video_id = self._annotation_id = 0

    def copy(self, path: Path, last_id: int) -> None:
        """Write the videos of a finished file, of frames up to `last_id`. Raises UserError naming file and field."""
        document = read_json(path, "videos")
        convert(document, _Document, f"videos {path}")
        frames = [frame for frame in document["images"] if frame["id"] <= last_id]
        annotations = [annotation for annotation in document["annotations"] if annotation["image_id"] <= last_id]
        used = {frame["video_id"] for frame in frames}
        self._videos += [video for video in document["videos"] if video["id"] in used]
        self._video_id = max(used, default=0)
        self._annotation_id = max((annotation["id"] for annotation in annotations), default=0)
        for file, entries in ((self._images, frames), (self._annotations, annotations)):
            file.writelines(json.dumps(entry) + "\n" for entry in entries)

    def start(self, file: Path, fps: float) -> None:
        """Begin a video; fps: frames per second of the file, to which `frame` refers."""
        self._video_id += 1
        self._videos.append({"id": self._video_id, "name": str(file), "fps": round(fps, 6)})

    def add(self, prediction: Prediction, image_id: int, frame: int) -> None:
        """Write the people of a frame."""
        width, height = prediction.size_wh
        about = {"id": image_id, "video_id": self._video_id, "frame_id": frame, "width": width, "height": height}
        name = f"{Path(str(prediction.source)).name}/{frame:06d}"  # frames have no files; the name is unique in a video
        self._images.write(json.dumps({**about, "file_name": f"{self._video_id}/{name}"}) + "\n")
        for person in prediction.people:
            self._annotation_id += 1
            entry = person.to_coco(image_id, size_wh=prediction.size_wh)
            box = entry.pop("box")
            entry |= {"id": self._annotation_id, "video_id": self._video_id, "track_id": person.identity or -1}
            found = sum(value > 0 for value in entry["keypoints"][2::3])
            entry |= {"bbox": box, "area": round(box[2] * box[3], 2), "iscrowd": 0, "num_keypoints": found}
            self._annotations.write(json.dumps(entry) + "\n")

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self._write()
        for file in (self._images, self._annotations):
            file.close()
            Path(file.name).unlink()

    def _write(self) -> None:
        joints = list(self._skeleton.source_joints)
        limbs = [[joints.index(a) + 1, joints.index(b) + 1] for a, b in self._skeleton.limbs if {a, b} <= set(joints)]
        category = {"id": PERSON_CATEGORY, "name": "person", "keypoints": joints, "skeleton": limbs}
        with self._path.open("w", encoding="utf-8") as file:
            file.write('{"videos": [' + ", ".join(map(json.dumps, self._videos)) + f'],\n"categories": [{json.dumps(category)}]')
            for name, lines in (("images", self._images), ("annotations", self._annotations)):
                file.write(f',\n"{name}": [')
                lines.seek(0)
                for number, line in enumerate(lines):
                    file.write((",\n" if number else "\n") + line.rstrip("\n"))
                file.write("\n]")
            file.write("}\n")
