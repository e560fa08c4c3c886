"""Encoders of texts: from token ids and their mask ``[n, T]`` to embeddings ``[n, D]``.

The rule here: padding never changes an embedding.
"""
