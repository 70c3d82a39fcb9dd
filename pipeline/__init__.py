"""Offline stage: COCO keypoints -> augmented crops -> targets -> sharded MindRecord files.

This level holds what every stage shares: skeleton, geometry, images, drawing, command line. `storage` reads and writes files,
`runtime` has processes, signals and progress. This level imports these two sub-packages only; `__main__` names the commands.
The others follow the data: `datasets`, `samples`, `records`, `build`; `synthetic` draws people, `skeletons` holds skeleton files.
"""
