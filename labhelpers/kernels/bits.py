"""What the kernels share: MXFP4 numbers from their bits, and the activation between two matrices.

No table, no gather: a few integer instructions make a float out of a code, or two at a time.

The idea   an E2M1 code is s e e m, an fp16 number is s, five e, ten m (fp32: eight and 23). Put
           the code's e e m where the lowest two exponent bits and the highest mantissa bit of a
           float are, its s at the top, zeros elsewhere, and the float *is* the weight, times
           2**-14 in fp16, 2**-126 in fp32. The code 0.5, whose exponent is 0, becomes a subnormal
           float, which has the same rule for it: nothing is special. GPUs multiply subnormals at
           full speed, and Triton does not flush them. The missing power of two is multiplied in
           by whoever uses the number, where it costs least.
Pairs      an int32 of a checkpoint has 8 codes, and codes j and j + 4 lie 16 bits apart: one mask
           takes both, and the int32 is a pair of fp16 numbers. GPUs multiply and add such pairs
           in one instruction, `pair_fma`.
Planes     for that, activations are pairs too, of values i and i + 4 of each 8: `plane_place`.
Sources    OCP Microscaling Formats (MX) 1.0, sections 5.3.3 (E2M1) and 5.4.1 (E8M0); PTX ISA,
           fma.f16x2. Triton's interpreter has no PTX: there `pair_fma` is emulated in fp32.
"""
# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from __future__ import annotations

from labhelpers.kernels.triton_or_not import EMULATE, jit, tl


@jit
def fp4_tiny(word):
    """The top nibble of each int32, as fp32 times 2**-126.

    For nibble j shift the word left by 28 - 4 j before. An arithmetic shift to the right then
    leaves s at bit 31 and e e m at bits 24 to 22; the mask 0x81C00000 clears what is between
    (copies of s) and below (the other nibbles).
    """
    return ((word >> 6) & -0x7E400000).to(tl.float32, bitcast=True)


@jit
def fp4_pair(word, pair):
    """Nibbles `pair` and `pair` + 4 of each int32 as two fp16 times 2**-14, in one int32.

    s goes from bit 4 pair + 3 to bit 15, e e m from the three below it to bits 11 to 9, and the
    same 16 bits higher.
    """
    sign = (word << (12 - 4 * pair)) & -0x7FFF8000  # 0x80008000
    if pair < 3:
        rest = word << (9 - 4 * pair)
    else:
        rest = word >> 3
    return sign | (rest & 0x0E000E00)


@jit
def fp4_pair_bf16(word, pair):
    """The same as two bf16 times 2**-126: s to bit 15, e e m to bits 8 to 6."""
    sign = (word << (12 - 4 * pair)) & -0x7FFF8000
    if pair < 2:
        rest = word << (6 - 4 * pair)
    else:
        rest = word >> (4 * pair - 6)
    return sign | (rest & 0x01C001C0)


@jit
def halves_bf16(pairs):
    """The two bf16 of each int32: (low, high); in the interpreter, which has no bf16, as fp32."""
    if EMULATE:
        low, high = pairs << 16, pairs & -0x10000
        return low.to(tl.float32, bitcast=True), high.to(tl.float32, bitcast=True)
    else:
        low, high = pairs.to(tl.int16), (pairs >> 16).to(tl.int16)
        return low.to(tl.bfloat16, bitcast=True), high.to(tl.bfloat16, bitcast=True)


@jit
def pair_scaled_bf16(pairs, power):
    """Pairs of bf16 in int32, times a pair of powers of two: exact unless it leaves bf16."""
    if EMULATE:
        low, high = halves_bf16(pairs)
        by, _ = halves_bf16(power)
        low, high = (low * by).to(tl.int32, bitcast=True), (high * by).to(tl.int32, bitcast=True)
        return ((low >> 16) & 0xFFFF) | (high & -0x10000)
    else:  # plus -0.0: Ampere has the fused form alone
        return tl.inline_asm_elementwise(
            "{ .reg .b32 z; mov.b32 z, 0x80008000; fma.rn.bf16x2 $0, $1, $2, z; }", "=r,r,r",
            [pairs, power], dtype=tl.int32, is_pure=True, pack=1)  # fmt: skip


@jit
def halves(pairs):
    """The two fp16 of each int32, as fp32: (low, high)."""
    low = pairs.to(tl.int16).to(tl.float16, bitcast=True)
    high = (pairs >> 16).to(tl.int16).to(tl.float16, bitcast=True)
    return low.to(tl.float32), high.to(tl.float32)


@jit
def _pack(low, high):
    low = low.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF
    return low | (high.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32) << 16)


@jit
def pair_fma(a, b, c):
    """a * b + c for pairs of fp16 in int32, rounded once to fp16."""
    if EMULATE:
        a_low, a_high = halves(a)
        b_low, b_high = halves(b)
        c_low, c_high = halves(c)
        return _pack(a_low * b_low + c_low, a_high * b_high + c_high)
    else:
        return tl.inline_asm_elementwise("fma.rn.f16x2 $0, $1, $2, $3;", "=r,r,r,r", [a, b, c],
                                         dtype=tl.int32, is_pure=True, pack=1)  # fmt: skip


@jit
def _pair_add(a, b):
    return tl.inline_asm_elementwise("add.rn.f16x2 $0, $1, $2;", "=r,r,r", [a, b],
                                     dtype=tl.int32, is_pure=True, pack=1)  # fmt: skip


@jit
def pair_sum(pairs):
    """Sums of pairs of fp16 in int32 [a, b, c, d] over d: [a, b, c]."""
    if EMULATE:
        low, high = halves(pairs)
        return _pack(tl.sum(low, 3), tl.sum(high, 3))
    else:
        return tl.reduce(pairs, 3, _pair_add)


@jit
def plane_place(i, K):
    """Where value i of K goes in planes, an fp16 [4, K / 8, 2]: plane i % 4, beside i + 4."""
    return i % 4 * (K // 4) + i // 8 * 2 + i // 4 % 2


@jit
def plane_scale(largest):
    """Powers of two for a token whose largest magnitude is given: (multiply, unscale), fp32.

    unscale is `largest` without its mantissa, multiply 2**14 / unscale: values times `multiply`
    stay below 2**15, so fp16 holds them, and those down to 2**-28 of the largest keep all bits
    that bf16 gave them.
    """
    # From the exponent field e of fp32: 2**(e - 127), and 2**(141 - e), whose field is 268 - e.
    field = (largest.to(tl.int32, bitcast=True) >> 23) & 0xFF
    field = tl.minimum(tl.maximum(field, 15), 254)  # zeros; infinity and NaN stay what they are
    unscale = (field << 23).to(tl.float32, bitcast=True)
    return ((268 - field) << 23).to(tl.float32, bitcast=True), unscale


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
