"""Modules that run on :mod:`zoo.ops`."""

from zoo.nn.fused import FusedConv2d
from zoo.nn.training import fuse_for_training

__all__ = ["FusedConv2d", "fuse_for_training"]
