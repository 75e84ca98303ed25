"""Every size and choice of LSA, and of the CSA/HCA attention that it stands on."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from intuitive.common.checks import whole, whole_fields
from intuitive.common.inputs import plain_fields

Kind = Literal["window", "csa", "hca"]
Layout = Literal["float32", "bfloat16", "v4"]

SCALED_TOGETHER = 64  # fp8 channels of an entry that share a scale byte, in V4's layout
SCALE_ALIGNMENT = 8  # those bytes are filled up to a multiple of this


@dataclass(frozen=True, kw_only=True)
class LSAConfig:
    """Sizes of the attention layers, of the Memory Indexer and of its labels.

    A chunk is one CSA entry, `chunk_size` tokens (the paper's m); a page is `page_size` chunks.
    The defaults suit a laptop.

    Raises:
        ValueError: a size out of range, or two that do not fit each other; in words.

    Source: arXiv:2606.09079v2, sections 2.1, 2.2 and 2.4, and the official repository; the layers
    are those of DeepSeek-V4-Flash.
    Differs: `memory_bias` is on by default. The paper has none; 128 heads can agree on a negative
    logit, a handful cannot, and then most of the history passes the threshold.
    """

    # attention
    d_model: int = 64  # channels of the residual stream
    layers: tuple[Kind, ...] = ("window", "csa", "hca", "csa", "hca", "csa", "hca", "csa")
    n_heads: int = 4  # query heads; all read one shared key-value head
    d_head: int = 32  # channels
    d_rope: int = 16  # the last channels of a head, which RoPE turns
    q_rank: int = 32  # channels between the stream and the queries
    o_groups: int = 2  # groups of heads in the output projection
    o_rank: int = 32  # channels of one group's output
    norm_eps: float = 1e-6
    window: int = 32  # newest tokens that every layer reads uncompressed, the query's own included
    chunk_size: int = 4  # tokens between CSA entries, each of which pools twice as many
    hca_size: int = 32  # tokens of an HCA entry
    n_index_heads: int = 4  # of the lightning indexer
    d_index: int = 32  # channels of an index key
    top_k: int = 16  # CSA entries that a query reads
    rope_base: float = 10_000.0  # of layers that have a window only
    compressed_rope_base: float = 160_000.0  # of CSA and HCA layers
    yarn_factor: float = 1.0  # stretches the slow pairs of the latter; 1 stretches nothing
    yarn_length: int = 65_536  # tokens that the model was first trained on
    layout: Layout = "float32"  # how entries and index keys are stored

    # Memory Indexer
    memory_layers: tuple[int, ...] = (0, 1, 2)  # counted among CSA layers
    memory_rank: int = 64
    n_memory_heads: int = 16
    memory_bias: bool = True
    hadamard: bool = False  # whether stored index keys went through a Walsh-Hadamard transform
    threshold: float = 0.5  # a chunk is fetched if its probability is greater
    lookahead: int = 64  # decode steps between two triggers, and that one trigger serves (τ)
    tail: int = 256  # newest tokens whose chunks are always resident
    sink: int = 0  # first chunks that are always resident
    page_size: int = 64  # chunks

    # labels
    label_top_k: int = 64  # chunks over which a layer's softmax is taken
    label_top_p: float = 0.6
    label_votes: int = 2  # CSA layers that must agree

    def __post_init__(self) -> None:
        plain_fields(self)
        whole_fields(self, d_model=1, n_heads=1, d_head=1, d_rope=0, q_rank=1)
        whole_fields(self, o_groups=1, o_rank=1, window=1, chunk_size=1, hca_size=1)
        whole_fields(self, n_index_heads=1, d_index=1, top_k=1, yarn_length=1)
        whole_fields(self, memory_rank=1, n_memory_heads=1, lookahead=1, tail=0, sink=0)
        whole_fields(self, page_size=1, label_top_k=1, label_votes=1)
        self._check_layers()
        self._check_heads()
        for name in ("threshold", "label_top_p"):
            value = getattr(self, name)
            if not 0 < value < 1:
                raise ValueError(f"{name}={value} must lie between 0 and 1, both excluded.")
        if not (math.isfinite(self.norm_eps) and self.norm_eps > 0):
            raise ValueError(f"norm_eps={self.norm_eps} must be above 0.")
        for name in ("rope_base", "compressed_rope_base"):
            if not getattr(self, name) > 1:
                raise ValueError(f"{name}={getattr(self, name)} must be above 1.")
        if not self.yarn_factor >= 1:
            raise ValueError(f"yarn_factor={self.yarn_factor} must be at least 1: 1 is no YaRN.")
        if self.layout not in get_args(Layout):
            raise ValueError(f"layout={self.layout!r} is unknown; choose from {get_args(Layout)}.")

    def _check_layers(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        unknown = sorted(set(self.layers) - set(get_args(Kind)))
        if unknown or not self.layers:
            raise ValueError(
                f"layers={self.layers} must be a row of {get_args(Kind)}, at least one of them."
            )
        n_csa = self.layers.count("csa")
        voters = tuple(whole("memory_layers", layer) for layer in self.memory_layers)
        object.__setattr__(self, "memory_layers", voters)
        if len(set(voters)) < len(voters) or not all(0 <= layer < n_csa for layer in voters):
            raise ValueError(
                f"memory_layers={voters} must be different numbers in [0, {n_csa}): they count "
                "CSA layers, not all layers."
            )
        if n_csa and self.label_votes > n_csa:
            raise ValueError(
                f"label_votes={self.label_votes} exceeds the {n_csa} CSA layers: no chunk could "
                "ever be golden."
            )

    def _check_heads(self) -> None:
        if self.n_heads % self.o_groups:
            raise ValueError(
                f"n_heads={self.n_heads} must be a multiple of o_groups={self.o_groups}: groups of "
                "heads are equal in size."
            )
        if self.d_rope % 2:
            raise ValueError(f"d_rope={self.d_rope} must be even: RoPE turns channels in pairs.")
        for name in ("d_head", "d_index"):
            if self.d_rope > getattr(self, name):
                raise ValueError(
                    f"d_rope={self.d_rope} exceeds {name}={getattr(self, name)}: RoPE turns the "
                    "last channels of a head."
                )
        if self.hadamard and self.d_index & (self.d_index - 1):
            raise ValueError(
                f"d_index={self.d_index} must be a power of two for the Walsh-Hadamard transform: "
                "choose one, or hadamard=False."
            )

    @property
    def n_csa(self) -> int:
        """CSA layers."""
        return self.layers.count("csa")

    @property
    def n_hca(self) -> int:
        """HCA layers."""
        return self.layers.count("hca")

    @property
    def csa_layers(self) -> tuple[int, ...]:
        """Numbers of the CSA layers among all layers."""
        return tuple(i for i, kind in enumerate(self.layers) if kind == "csa")

    @property
    def tail_chunks(self) -> int:
        """Chunks that hold the tail; the one that it only reaches into counts."""
        return -(-self.tail // self.chunk_size)

    @property
    def entry_bytes(self) -> int:
        """Bytes of one CSA or HCA entry in one layer.

        V4 stores channels without RoPE in fp8, the others in bfloat16, and a scale byte for each
        64 of the former, filled up to a multiple of 8: 448 + 128 + 8 = 584.
        """
        if self.layout == "v4":
            fp8 = self.d_head - self.d_rope
            scales = -(-fp8 // SCALED_TOGETHER)
            return fp8 + 2 * self.d_rope + SCALE_ALIGNMENT * -(-scales // SCALE_ALIGNMENT)
        return self.d_head * (4 if self.layout == "float32" else 2)

    @property
    def index_key_bytes(self) -> int:
        """Bytes of one index key in one layer; in V4's layout fp8 and a float32 scale, 132."""
        if self.layout == "v4":
            return self.d_index + 4
        return self.d_index * (4 if self.layout == "float32" else 2)

    @classmethod
    def paper(cls) -> "LSAConfig":
        """DeepSeek-V4-Flash (2 window layers, 21 CSA, 20 HCA) with the released Memory Indexer."""
        return cls(
            d_model=4096,
            layers=("window", "window", *("csa", "hca") * 20, "csa"),
            n_heads=64,
            d_head=512,
            d_rope=64,
            q_rank=1024,
            o_groups=8,
            o_rank=1024,
            window=128,
            chunk_size=4,
            hca_size=128,
            n_index_heads=64,
            d_index=128,
            top_k=512,
            yarn_factor=16.0,
            layout="v4",
            memory_layers=(10, 12, 20),
            memory_rank=2048,
            n_memory_heads=128,
            memory_bias=False,
            hadamard=True,
            tail=8192,
            label_top_k=512,
            label_votes=3,
        )
