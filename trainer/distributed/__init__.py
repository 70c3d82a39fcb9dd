"""Distributed training: the processes of a run (`world`), and the command `launch` that starts them.

Imports `trainer.config`, `trainer.run.layout` and the signal handling of `trainer.loop`.
"""
