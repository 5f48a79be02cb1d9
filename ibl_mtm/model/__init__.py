"""Masking, stitching and the transformer: tensors in, tensors out."""
