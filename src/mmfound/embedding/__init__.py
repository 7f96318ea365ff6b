"""Embeddings of a source in a file, and what is found in it."""

from mmfound.embedding.file import EmbeddingFile
from mmfound.embedding.job import Job
from mmfound.embedding.search import Hits, search

__all__ = ["EmbeddingFile", "Hits", "Job", "search"]
