"""Modules that run on :mod:`zoo.ops`."""

from zoo.nn.fused import FusedConv2d

__all__ = ["FusedConv2d"]
