"""Training stage: record shards -> batches -> network -> checkpoints."""
