"""The training loop: loss, optimizer, step, state, signals, and the command `train`. Imports every other part of `trainer` but the commands."""
