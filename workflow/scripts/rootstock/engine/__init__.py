"""The training engine: loop, early stopping, metrics, devices. It knows no task."""
