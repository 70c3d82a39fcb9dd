"""Validation while training: options, the check before the first step, and the process that computes the AP.

Imports the pipeline, and of the trainer the `run` folder and the environment of ranks; starts the evaluator without importing it.
"""
