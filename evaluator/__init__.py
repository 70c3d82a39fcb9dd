"""Evaluation stage: checkpoint -> fields -> people -> COCO metrics, pictures and reports."""
