"""Where trained models lie, one folder a hash: locked while written, whole or absent, verified when read. No torch."""
