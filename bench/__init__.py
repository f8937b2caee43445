"""`make bench`: our ingest and a hand-written service, end to end, in one run."""
