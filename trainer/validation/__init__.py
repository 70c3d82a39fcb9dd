"""Validation while training: the options, the check before the first step, and the process that computes the AP."""
