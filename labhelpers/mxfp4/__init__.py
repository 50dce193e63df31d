"""MXFP4, the four-bit format of gpt-oss's experts: see `format` for the numbers."""

from labhelpers.mxfp4.format import (
    FP4_VALUES,
    dequantize,
    fake_quantize,
    fake_quantize_ste,
    pack,
    quantize,
    unpack,
)

__all__ = [
    "FP4_VALUES",
    "dequantize",
    "fake_quantize",
    "fake_quantize_ste",
    "pack",
    "quantize",
    "unpack",
]
