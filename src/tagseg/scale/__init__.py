"""Many photos over many processes: plan once, work shard by shard, finish.

A plan lists the photos and cuts the list into shards. Whoever works a shard writes one container and, last, one record.
A shard is done when its record is there; nothing else decides. Two workers on one shard do no harm.
"""
