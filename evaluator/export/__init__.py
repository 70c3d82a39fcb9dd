"""The command `export`: a checkpoint's network for other engines. Imports `trainer` and `evaluator.decoding`."""
