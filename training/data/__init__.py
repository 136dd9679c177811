"""Readers of the public data sets in their official layouts, shards of their examples, and batches from shards."""
