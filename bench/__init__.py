"""What a sweep costs, beside a floor and beside others: `make bench`."""
