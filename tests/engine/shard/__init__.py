"""Tests of the shard against other opinions: a brute-force recount, naive tables, hand-made lives."""
