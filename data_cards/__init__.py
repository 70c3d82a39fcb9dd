"""Data cards: contents, origin and licenses of source data sets and record sets.

Holds the cards of the source data sets (*.md), writes the card of a record set (CARD.md, croissant.json, pictures/) and compares record
sets. May import `pipeline`; reads record sets through their manifest and `samples.parquet`.
"""
