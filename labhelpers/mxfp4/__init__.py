"""MXFP4, the four-bit format of gpt-oss's experts: see `format` for the numbers.

grid        the sixteen values, and rounding to them
scales      three rules for the power of two that 32 weights share
format      quantize, dequantize, fake quantisation: the readable versions
fast        dequantize on a CPU, many times faster; `transposed` for transformers' order
pages       new memory in large pages, for `fast`
ggml        llama.cpp's order of the same bytes
packed      experts that stay packed while they are used
compare     int4 and NF4, and a table of errors
"""

from labhelpers.mxfp4.fast import dequantize_fast
from labhelpers.mxfp4.format import (
    FP4_VALUES,
    RULES,
    Rule,
    dequantize,
    fake_quantize,
    fake_quantize_ste,
    pack,
    quantize,
    unpack,
)
from labhelpers.mxfp4.ggml import from_ggml, to_ggml
from labhelpers.mxfp4.transposed import dequantize_transposed

__all__ = [
    "FP4_VALUES",
    "RULES",
    "Rule",
    "dequantize",
    "dequantize_fast",
    "dequantize_transposed",
    "fake_quantize",
    "fake_quantize_ste",
    "from_ggml",
    "pack",
    "quantize",
    "to_ggml",
    "unpack",
]
