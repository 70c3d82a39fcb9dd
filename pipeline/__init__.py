"""Offline stage: COCO key points -> augmented crops -> targets -> sharded MindRecord files."""
