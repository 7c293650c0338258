"""Distillation: a teacher's sentence embeddings into a small student, first in general (phase 1), then for retrieval."""
