"""The run folder: layout, claim, checkpoints, log, plan, curves, TensorBoard events, pictures.

Imports `trainer.networks` and `trainer.config`, never `trainer.loop`.
"""
