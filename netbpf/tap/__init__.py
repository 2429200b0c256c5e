"""Captures on hooks: packets with the verdict they got, also those that were dropped."""
