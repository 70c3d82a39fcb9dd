"""Training stage: reads record sets, trains networks, writes run folders with checkpoints.

Sub-packages: `networks`, `weights` (pretrained weights), `data` (batches), `loop` (the training loop), `run` (the run folder),
`distributed` (several processes) and `commands` (all other commands). May import `pipeline`.
"""

from trainer import device as device  # sets the CPU instruction set, which must happen before mindspore computes anything
