"""What the kernels share: MXFP4 numbers from their bits, and the activation between two matrices.

No table, no gather, three integer instructions a weight.

The idea   an E2M1 code is s e e m, an fp32 number is s, eight e, 23 m. Put the code's e e m where
           the lowest two exponent bits and the highest mantissa bit of an fp32 are, its s at the
           top, zeros elsewhere, and the fp32 *is* the weight, times 2**-126. The code 0.5, whose
           exponent is 0, becomes a subnormal fp32, which has the same rule for it: nothing is
           special. GPUs multiply subnormals at full speed, and Triton does not flush them.
           The missing 2**126 is multiplied in by whoever uses the number, where it costs least.
Sources    OCP Microscaling Formats (MX) 1.0, sections 5.3.3 (E2M1) and 5.4.1 (E8M0).
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from labhelpers.kernels.triton_or_not import jit, tl


@jit
def fp4_tiny(word):
    """The top nibble of each int32, as fp32 times 2**-126.

    For nibble j shift the word left by 28 - 4 j before. An arithmetic shift to the right then
    leaves s at bit 31 and e e m at bits 24 to 22; the mask 0x81C00000 clears what is between
    (copies of s) and below (the other nibbles).
    """
    return ((word >> 6) & -0x7E400000).to(tl.float32, bitcast=True)


@jit
def power_of_two(scale):
    """2**(scale - 127) as fp32 from E8M0 bytes: the byte is the exponent of an fp32.

    Two of 256 differ: 0 means the subnormal 2**-127, 255 is NaN.
    """
    bits = tl.maximum(scale.to(tl.int32) << 23, 0x00400000)
    return tl.where(scale == 255, 0x7FC00000, bits).to(tl.float32, bitcast=True)


@jit
def clamped_swiglu(pairs, alpha, limit):
    """gpt-oss's activation of [..., 2] fp32, gate and up: [...]. A NaN stays one."""
    gate, up = tl.split(pairs)
    gate = tl.minimum(gate, limit, propagate_nan=tl.PropagateNan.ALL)
    up = tl.minimum(tl.maximum(up, -limit, propagate_nan=tl.PropagateNan.ALL), limit,
                    propagate_nan=tl.PropagateNan.ALL)  # fmt: skip
    return gate * (1 / (1 + tl.exp(-alpha * gate))) * (up + 1)
