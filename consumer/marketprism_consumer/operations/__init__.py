"""What a person asks of a pipeline: proofs, repairs, looks. Each a function that commands call."""
