"""Distil a teacher's sentence embeddings into a small student: in general (phase 1), then for retrieval (phase 2)."""
