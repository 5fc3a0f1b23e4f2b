"""The CDP's side of the fragments: keys, minting, leasing, destroying. `FragmentService` puts it together."""
