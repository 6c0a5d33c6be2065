"""Curates shards: one RQ job a shard, every stage of it overlapping."""
