"""Runs StoragePipelines and TieringPolicies: triggers, steps, builders of manifests."""
