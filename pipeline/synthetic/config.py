"""Options of the command `synthesize`. Imports nothing heavy, so that `--help` is fast."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

MAX_IMAGES = 500_000
MAX_CLIPS, MAX_FRAMES = 500_000, 10_000


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Difficulty of the scenes."""

    max_people: int = 10
    """Maximum number of people per image, not counting crowds."""
    min_person_height: float = 0.06
    """Height of the smallest people, as a fraction of the image height."""
    clutter: float = 14.0
    """Mean number of objects in the background."""
    variety: float = 1.0
    """Fraction of people in any pose, seen from any direction, possibly cut off by the image border. The others stand or walk, are seen
    from the front or the back, are fully inside the image, and keep apart from each other where there is room."""

    def __post_init__(self) -> None:
        if self.max_people < 1:
            raise ValueError(f"max_people must be at least 1, got {self.max_people}")
        if not 0 < self.min_person_height <= 0.9:
            raise ValueError(f"min_person_height must be in (0, 0.9], got {self.min_person_height}")
        if not 0 <= self.clutter <= 100:
            raise ValueError(f"clutter must be between 0 and 100, got {self.clutter}")
        if not 0 <= self.variety <= 1:
            raise ValueError(f"variety must be between 0 and 1, got {self.variety}")


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """Clips of --video."""

    num_clips: int = 10
    """With --video: number of clips."""
    num_frames: int = 100
    """With --video: number of frames per clip."""
    fps: float = 25.0
    """With --video: frames per second."""

    def __post_init__(self) -> None:
        for name, most in (("num_clips", MAX_CLIPS), ("num_frames", MAX_FRAMES)):
            if not 1 <= getattr(self, name) < most:
                raise ValueError(f"{name} must be between 1 and {most - 1}, got {getattr(self, name)}")
        if not 1 <= self.fps <= 1000:
            raise ValueError(f"fps must be between 1 and 1000, got {self.fps}")


@dataclass(frozen=True, kw_only=True)
class SynthesizeConfig:
    """Draw a COCO-format data set of people: OUT/annotations/person_keypoints_train2017.json and OUT/train2017/*.jpg.

    With --video, the images are the frames of clips in which people walk, cross and hide each other, and the annotations tell who is
    who: `videos`, and `video_id`, `frame_id` and `track_id`.

    Example: python -m pipeline synthesize --out people --num-images 1000 --seed 7
    """

    out: Path
    """Folder of the data set; must be absent or empty. It is created when all files are complete."""
    video: bool = False
    """Draw clips instead of single images."""
    num_images: int = 1000
    """Number of images, without --video. About one in seven shows no people."""
    seed: int = 0
    """Random seed. The same seed draws the same images."""
    width: int = 640
    """Image width in pixels."""
    height: int = 480
    """Image height in pixels."""
    year: Literal["2014", "2017"] = "2017"
    """File names as in COCO of this year: COCO_train2014_000000000042.jpg (2014) or 000000000042.jpg (2017)."""
    split: Literal["train", "val"] = "train"
    """Name of the split. Train and val of the same seed contain different images with different ids."""
    jpeg_quality: int = 90
    """JPEG quality, 1 to 100."""
    jobs: int = -1
    """Number of processes; -1 = one per core. Does not change the images."""
    scene: SceneConfig = field(default_factory=SceneConfig)
    clips: ClipConfig = field(default_factory=ClipConfig)

    def __post_init__(self) -> None:
        if self.video and self.num_images != SynthesizeConfig.num_images:
            raise ValueError(f"num_images does not go with --video, got {self.num_images}; use num_clips and num_frames")
        if not self.video and self.clips != ClipConfig():
            raise ValueError("num_clips, num_frames and fps need --video")
        if not 1 <= self.num_images < MAX_IMAGES:
            raise ValueError(f"num_images must be between 1 and {MAX_IMAGES - 1}, got {self.num_images}")
        for name in ("width", "height"):
            if not 64 <= getattr(self, name) <= 4096:
                raise ValueError(f"{name} must be between 64 and 4096 pixels, got {getattr(self, name)}")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be between 1 and 100, got {self.jpeg_quality}")
        if self.jobs == 0 or self.jobs < -1:
            raise ValueError(f"jobs must be -1 (one per core) or at least 1, got {self.jobs}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")

    def frame_name(self, clip: int, frame: int) -> str:
        """Return the file name of a frame, in the folder of its clip."""
        return f"{clip:06d}/{frame:06d}.jpg"

    @property
    def image_folder(self) -> str:
        """Name of the folder of the images, such as train2017."""
        return f"{self.split}{self.year}"

    def file_name(self, image_id: int) -> str:
        """Return the file name of an image."""
        return f"COCO_{self.image_folder}_{image_id:012d}.jpg" if self.year == "2014" else f"{image_id:012d}.jpg"
