"""What is trained: one folder a task. `registry` names them; each `spec` module is light, the rest loads torch."""
