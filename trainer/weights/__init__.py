"""Readers of published weights, one module per format. Imports `pipeline` only."""
