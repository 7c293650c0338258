"""What is trained: one folder per task, listed in `registry`. Modules that call themselves light load no torch."""
