"""The names of COCO's ten keypoint metrics. Imports nothing, because `predict` runs without pycocotools."""

FIGURES = ("AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR", "AR .5", "AR .75", "AR (M)", "AR (L)")
