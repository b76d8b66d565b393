"""The checks of the contract, by what they are asked of."""
