"""What is in each source data set and in each built record set."""
