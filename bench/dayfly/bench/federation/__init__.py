"""Cases of the federation suite, beside `federation_case`."""
