"""How anything is trained: the loop, early stopping, metrics, devices. Knows no task."""
