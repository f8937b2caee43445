"""Is what is stored right? One statement per table and slice of time answers for every series at once."""
