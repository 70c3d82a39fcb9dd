"""A reproducible split of a converted file: images to train on, and images held out for evaluation."""

import hashlib
from typing import Any


def is_held_out(name: str, share: float) -> bool:
    """Return whether the image of this name is held out. Depends on name and share only; a larger share adds images."""
    number = int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8])
    return number < share * 2**64


def split(document: dict[str, Any], share: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide a COCO document into the part to train on and the part that is held out."""
    held = {image["id"] for image in document["images"] if is_held_out(image["file_name"], share)}

    def part(keep: bool) -> dict[str, Any]:
        images = [image for image in document["images"] if (image["id"] in held) == keep]
        annotations = [entry for entry in document["annotations"] if (entry["image_id"] in held) == keep]
        return {**document, "images": images, "annotations": annotations}

    return part(False), part(True)
