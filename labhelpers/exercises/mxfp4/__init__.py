"""Chapter 2's exercises: MXFP4 from the bits of one number to the bytes of a whole model.

A code is four bits, a block 32 codes that share a scale byte; two codes make a byte.
"""

from labhelpers.exercises.mxfp4 import decoding_slips as _decoding_slips  # noqa: F401 (registers)
from labhelpers.exercises.mxfp4 import diagnosing_slips as _diagnosing_slips  # noqa: F401
from labhelpers.exercises.mxfp4 import gradients_slips as _gradients_slips  # noqa: F401
from labhelpers.exercises.mxfp4.decoding import decode_e2m1
from labhelpers.exercises.mxfp4.diagnosing import diagnose
from labhelpers.exercises.mxfp4.gradients import straight_through
from labhelpers.exercises.mxfp4.packing import pack_block
from labhelpers.exercises.mxfp4.reading import tokens_a_second
from labhelpers.exercises.mxfp4.rounding import quantize_block
from labhelpers.exercises.mxfp4.scaling import choose_scale
from labhelpers.exercises.mxfp4.sizes import weight_gigabytes
from labhelpers.exercises.mxfp4.unpacking import unpack_by_table

EXERCISES = (
    decode_e2m1,
    choose_scale,
    quantize_block,
    pack_block,
    weight_gigabytes,
    straight_through,
    unpack_by_table,
    diagnose,
    tokens_a_second,
)

__all__ = ["EXERCISES", *sorted(e.name for e in EXERCISES)]
