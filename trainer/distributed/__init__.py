"""Several processes: who they are, and the command `launch` that starts them. Imports `trainer.config` and the signal handling of the loop."""
