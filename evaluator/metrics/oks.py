"""pycocotools' keypoint evaluation with its innermost loop as arrays: the same numbers in half the time."""

import copy
from collections.abc import Collection

import numpy as np
from pycocotools.cocoeval import COCOeval


class KeypointEval(COCOeval):
    """COCOeval for keypoints."""

    def computeOks(self, imgId: int, catId: int) -> np.ndarray | list:
        """OKS of an image's results, best first, at most maxDets of them, with its people: float64 (results, people).

        As COCOeval.computeOks, operation by operation, with all results of a person at once. A person without labeled joints
        is as far from a joint as its box, twice as large, is.
        """
        people, results = self._gts[imgId, catId], self._dts[imgId, catId]
        if not people or not results:
            return []
        order = np.argsort([-result["score"] for result in results], kind="mergesort")[: self.params.maxDets[-1]]
        found = np.array([results[i]["keypoints"] for i in order]).reshape(len(order), -1, 3)
        variances = (self.params.kpt_oks_sigmas * 2) ** 2
        oks = np.zeros((len(order), len(people)))
        for column, person in enumerate(people):
            true = np.array(person["keypoints"]).reshape(-1, 3)
            labeled = true[:, 2] > 0
            if labeled.any():
                dx, dy = found[..., 0] - true[:, 0], found[..., 1] - true[:, 1]
            else:
                x, y, width, height = person["bbox"]
                dx, dy = (
                    np.maximum(0, place - size - at) + np.maximum(0, at - (place + size * 2))
                    for place, size, at in ((x, width, found[..., 0]), (y, height, found[..., 1]))
                )
                labeled[:] = True
            error = (dx**2 + dy**2) / variances / (person["area"] + np.spacing(1)) / 2
            # Laid out row by row, so that each row is summed as pycocotools sums it.
            alike = np.exp(-np.ascontiguousarray(error[:, labeled]))
            oks[:, column] = np.sum(alike, axis=1) / alike.shape[1]
        return oks

    def over(self, image_ids: Collection[int]) -> "KeypointEval":
        """The same evaluation, summarized over some of its images, without comparing anything again."""
        images = self._paramsEval.imgIds
        wanted = set(image_ids)
        kept = [place for place, image_id in enumerate(images) if image_id in wanted]
        part = copy.copy(self)
        part.params = copy.deepcopy(self.params)
        part.params.imgIds = [images[place] for place in kept]
        part._paramsEval = copy.deepcopy(part.params)
        # By category (there is one), area range and image.
        ranges = range(0, len(self.evalImgs), len(images))
        part.evalImgs = [self.evalImgs[first + place] for first in ranges for place in kept]
        part.accumulate()
        part.summarize()
        return part
