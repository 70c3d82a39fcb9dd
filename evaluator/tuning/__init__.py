"""The command `tune`: find the settings of the decoder for a network on annotated images, and keep them in its checkpoint.

`search` proposes settings and chooses among them by cross-validation; `tune` computes fields and decodes them with all of them.
Imports `evaluator.decoding`, `evaluator.inference`, `evaluator.jobs`, `evaluator.metrics`, `pipeline` and `trainer.run`.
"""
