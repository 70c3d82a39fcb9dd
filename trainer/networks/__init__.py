"""Networks: the architectures, their shared layers, and inference. Imports `pipeline` and `trainer.config`."""
