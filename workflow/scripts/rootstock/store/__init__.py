"""The store of trained models, one folder per hash: locked while written, whole or absent, verified when read. No
torch."""
