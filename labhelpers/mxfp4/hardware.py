"""Which hardware runs gpt-oss by which path: a table, each entry with where it is from.

The idea   three things are offered for download with gpt-oss, and each asks for other hardware:
           packed MXFP4 (a Triton kernel), FlashAttention 3 with sinks, and MegaBlocks' experts
           (bf16). What a machine lacks is replaced without a question, so know it beforehand.
gpt-oss    its sinks rule out PyTorch's SDPA and FlashAttention 2; its experts are 90% of it.
Sources    SOURCES, by the letter that an entry carries. Read in transformers 5.22.2's code unless
           another one is named.
Limits     one entry was measured by this course: Hopper's packed path, by its own kernels. The
           others are what code and documents say; "?" marks what neither of them settles. What a
           kernel on the Hub is built for can change without a release of transformers.
"""

from __future__ import annotations

from typing import NamedTuple

SOURCES = {
    "a": "transformers, quantizers/quantizer_mxfp4.py: the checks before loading",
    "b": "transformers, integrations/hub_kernels.py: MegaBlocksMoeMLP for cuda, rocm, xpu, cpu",
    "c": "transformers, modeling_flash_attention_utils.py and modeling_gpt_oss.py: which "
    "attention goes with which device",
    "d": "Hugging Face, Welcome GPT OSS (August 2025): the table of optimizations, which are "
    "recommendations: no MegaBlocks where MXFP4 runs",
    "e": "huggingface/kernels-community, pull request 313 (February 2026): in vllm-flash-attn3, "
    "attention sinks require Hopper",
    "f": "transformers issue 40183: the packed kernel crashes at random on an RTX 5090",
    "g": "triton-lang/triton, discussion 12517: below capability 8.0 products run without tensor "
    "cores, and are not supported",
    "h": "vllm issue 41477: a Triton kernel for MXFP4 does not compile for capability 12.1",
    "i": "openai/gpt-oss, README: 20b within 16 GB, 120b on a single H100 (their own Triton code)",
}


class Entry(NamedTuple):
    """A cell: does it run ("yes", "no", "?"), in which words, and the letters of its sources."""

    verdict: str
    text: str
    sources: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.text}" if self.text else self.verdict


class Hardware(NamedTuple):
    """A row. `capability` is NVIDIA's, None elsewhere."""

    name: str
    examples: str
    capability: tuple[int, int] | None
    packed: Entry
    flash: Entry  # FlashAttention 3 with sinks
    megablocks: Entry
    otherwise: Entry  # what happens without the packed path


_NEEDS = "with Triton 3.4 and kernels"
_UNPACKS = Entry("yes", "but bf16: 42 GB for 20b", "abd")
_BF16 = Entry("bf16", "one warning, then 42 GB for 20b", "a")
_NO_FLASH = Entry("no", "instead: eager or flex attention", "ce")

HARDWARE = (
    Hardware(
        "Hopper", "H100, H200", (9, 0),
        Entry("yes", _NEEDS, "adi"), Entry("yes", "vllm-flash-attn3 from the Hub", "cde"),
        _UNPACKS, _BF16,
    ),
    Hardware(
        "Blackwell, data centre", "B200, GB200", (10, 0),
        Entry("yes", _NEEDS, "ad"), Entry("no", "instead: FlashAttention 4", "ce"),
        _UNPACKS, _BF16,
    ),
    Hardware(
        "Blackwell, desktop", "RTX 5090, RTX PRO 6000", (12, 0),
        Entry("yes", f"{_NEEDS}; crashes are reported", "adfh"), _NO_FLASH, _UNPACKS, _BF16,
    ),
    Hardware(
        "Ada", "RTX 4090, L4, L40S", (8, 9), Entry("yes", _NEEDS, "ad"), _NO_FLASH,
        _UNPACKS, _BF16,
    ),
    Hardware(
        "Ampere", "A100, RTX 3090", (8, 0), Entry("yes", _NEEDS, "ad"), _NO_FLASH,
        _UNPACKS, _BF16,
    ),
    Hardware(
        "older CUDA, 7.5", "T4, RTX 2080", (7, 5),
        Entry("yes", f"{_NEEDS}; slow, no tensor cores", "adg"), _NO_FLASH,
        Entry("?", "bf16: 42 GB for 20b", "abd"), _BF16,
    ),
    Hardware(
        "older CUDA, below 7.5", "V100, P100", (7, 0), Entry("no", "too old", "a"), _NO_FLASH,
        Entry("?", "bf16: 42 GB for 20b", "abd"), _BF16,
    ),
    Hardware(
        "AMD Instinct", "MI300X", None,
        Entry("?", "passes transformers' checks; Hugging Face's table of 2025 says no", "ad"),
        Entry("no", "instead: aiter-flash-attn", "c"), _UNPACKS, _BF16,
    ),
    Hardware(
        "Apple", "M1 to M4", None, Entry("no", "needs CUDA, XPU or a CPU", "a"),
        Entry("no", "instead: metal-flash-sdpa", "c"), Entry("no", "no build named", "b"),
        Entry("bf16", "42 GB; llama.cpp stays packed", "ad"),
    ),
    Hardware(
        "CPU", "any", None, Entry("?", "use_kernels=True and Triton 3.5", "a"),
        _NO_FLASH, Entry("yes", "its own build; experts may stay packed", "ab"),
        Entry("bf16", "42 GB; this course's load_packed stays packed", "a"),
    ),
)  # fmt: skip


class Card(NamedTuple):
    """Memory as sold, GB, and cards that have it."""

    gigabytes: int
    names: str


CARDS = (
    Card(12, "RTX 3060, RTX 4070"),
    Card(16, "T4, RTX 4080, RTX 5080"),
    Card(24, "RTX 3090, RTX 4090, L4, A10"),
    Card(32, "RTX 5090"),
    Card(40, "A100"),
    Card(48, "L40S, A6000"),
    Card(80, "A100, H100"),
    Card(141, "H200"),
    Card(180, "B200"),
    Card(192, "MI300X"),
    Card(288, "B300, MI355X"),
)


def row_of(capability: tuple[int, int]) -> Hardware:
    """The row of an NVIDIA GPU by its capability, the newest that is not newer.

    Raises ValueError below 5.0, where torch has no builds left to speak of.
    """
    rows = [row for row in HARDWARE if row.capability is not None]
    found = [row for row in rows if row.capability is not None and row.capability <= capability]
    if found:
        return max(found, key=lambda row: row.capability or (0, 0))
    if capability >= (5, 0):
        return min(rows, key=lambda row: row.capability or (0, 0))
    raise ValueError(f"no row for capability {capability}: it is (major, minor), such as (8, 9)")
