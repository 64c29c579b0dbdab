"""Every call to AWS that the product makes, failing in every way: `make faults`."""
