"""Is what is stored right? One statement a table and slice of time answers for every series at once."""
