"""RMSNorm: divide each vector by its root mean square, then scale every channel.

gpt-oss's choice: statistics AND scale in float32, one rounding at the very end. Llama-style
code rounds before the scale, which in bfloat16 is a different number.

Source: RMSNorm in openai/gpt-oss; transformers' GptOssRMSNorm. No mean is subtracted and
there is no bias.
"""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last dimension, of size H."""

    def __init__(self, hidden_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))  # [H]
        self.eps = eps

    def forward(self, hidden: Tensor) -> Tensor:
        """Normalise hidden [..., H]; same shape and dtype out."""
        x = hidden.float()
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        return (self.weight * x).to(hidden.dtype)  # cast last: differs from Llama

    def extra_repr(self) -> str:
        """What print(model) says of it."""
        return f"{self.weight.numel()}, eps={self.eps}"
