"""Offline stage: COCO keypoints -> augmented crops -> targets -> sharded MindRecord files."""
