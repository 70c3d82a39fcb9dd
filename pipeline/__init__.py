"""Offline stage: COCO keypoints -> augmented crops -> targets -> sharded MindRecord files.

This level holds what every stage shares: skeleton, geometry, images, drawing, command line, durable files, progress. It imports
none of its sub-packages, except that `__main__` names the commands.
"""
