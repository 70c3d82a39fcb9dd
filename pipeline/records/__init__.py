"""The record set on disk: rows, shards, manifest, verification. Imports `pipeline.samples`; only `writer` imports mindspore."""
