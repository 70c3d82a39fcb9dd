"""The training loop: loss, optimizer, compiled step, state, signals, plan, and the command `train`.

Imports every other part of `trainer` except `trainer.commands`.
"""
