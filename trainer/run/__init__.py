"""The run folder: checkpoints, log, plan, events, pictures. Imports `trainer.networks` and `trainer.config`."""
