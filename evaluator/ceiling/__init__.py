"""How good decoding can be: `oracle`, `stress`, `bench-decode`. Imports decoding, inference and metrics."""
