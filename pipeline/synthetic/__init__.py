"""Synthetic people: a COCO-format data set drawn from a seed, for tests, demonstrations and the quickstart.

`figure` (ellipsoids and the figure made of them), `pose` (angles), `clothes` (colors and garments), `body` (random figures),
`drawing` (figures in an image), `scene` (background, objects, people), `annotations` (COCO entries of a scene), and the command
`synthesize` with its options in `config`. May import the shared modules of `pipeline` (`files`, `progress`, `skeletons`), not the
record sets or the build.
"""
