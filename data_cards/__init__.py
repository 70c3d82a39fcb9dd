"""Data cards: what a source data set and a record set contain, where it comes from and under which licenses.

Holds the cards of the source data sets (*.md), writes the card of a record set (CARD.md, croissant.json, pictures/) and compares record
sets. May import `pipeline`; reads record sets through their manifest and `samples.parquet`.
"""
