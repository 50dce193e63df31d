"""Chapter 1's exercises: every part of a gpt-oss block, and what surrounds it.

Letters: T tokens, H hidden, N query heads, K KV heads, D head_dim, E experts, k experts a token,
I intermediate, V vocabulary. No batch dimension: the first dimension is the token.
"""

from labhelpers.exercises.architecture import hunting_slips as _hunting_slips  # noqa: F401
from labhelpers.exercises.architecture.cost import active_parameters
from labhelpers.exercises.architecture.experts import swiglu
from labhelpers.exercises.architecture.generating import greedy
from labhelpers.exercises.architecture.hunting import first_wrong_part
from labhelpers.exercises.architecture.mixing import mix_experts
from labhelpers.exercises.architecture.rotating import apply_rope, rope_angles
from labhelpers.exercises.architecture.routing import route
from labhelpers.exercises.architecture.sharing import repeat_kv
from labhelpers.exercises.architecture.stream import block, rms_norm

EXERCISES = (
    rms_norm,
    rope_angles,
    apply_rope,
    repeat_kv,
    route,
    swiglu,
    mix_experts,
    block,
    greedy,
    active_parameters,
    first_wrong_part,
)

__all__ = ["EXERCISES", *sorted(e.name for e in EXERCISES)]
