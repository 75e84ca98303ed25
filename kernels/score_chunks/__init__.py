"""One logit per chunk: the heads' agreement with its key, rectified, weighted and summed."""

from typing import no_type_check

import torch
from jaxtyping import Float, Float32, Int32
from torch import Tensor

from .. import checks, dispatch, limits
from ..dispatch import Impl

FP8 = torch.float8_e4m3fn
SCALE_BYTES = 4  # a float32 behind the values of a stored row


@no_type_check
def stored(keys: Tensor, scales: Tensor | None, b: int, d: int) -> tuple[Tensor, Tensor | None]:
    """Keys and their scales, whichever of the three forms came.

    Stored rows become views of their two parts.

    Returns:
        Keys [b, chunks, d], float or float8_e4m3fn, and their scales [b, chunks] or None.

    Raises:
        ValueError: shapes do not fit, or scales are missing or out of place.
    """
    if keys.dtype != torch.uint8:
        layout = {"keys": (keys, "b chunks d")}
        if scales is not None:
            layout["scales"] = (scales, "b chunks")
        checks.axes(q=(torch.empty(b, 1, d, device="meta"), "b heads d"), **layout)
        if (keys.dtype == FP8) != (scales is not None):
            raise ValueError(
                f"keys has dtype {keys.dtype} and scales is "
                f"{'missing' if scales is None else 'given'}: float8_e4m3fn keys come with one "
                "float32 scale per chunk, keys of other dtypes without."
            )
        return keys, scales
    width = d + SCALE_BYTES
    if keys.ndim not in (2, 3) or keys.shape[-1] != width or 0 in keys.shape:
        raise ValueError(
            f"keys has dtype torch.uint8 and shape {tuple(keys.shape)}, but stored rows have the "
            f"axes [chunks, {width}] or [b, chunks, {width}]: d={d} codes of e4m3 and a float32."
        )
    if scales is not None:
        raise ValueError("scales is given, but stored rows hold their own: pass scales=None.")
    if keys.ndim == 2:
        keys = keys.expand(b, -1, -1)
    elif keys.shape[0] != b:
        raise ValueError(
            f"keys has shape {tuple(keys.shape)}, but q has b={b}: pass one store for each batch "
            "entry, or one of two axes for all."
        )
    start = 0 if torch.compiler.is_compiling() else keys.storage_offset()  # tracing cannot ask
    apart = (*keys.stride()[:-1], start)
    if keys.stride(-1) != 1 or any(n % SCALE_BYTES for n in apart):
        keys = keys.contiguous()
    scales = keys[..., d:] if d % SCALE_BYTES == 0 else keys[..., d:].contiguous()
    return keys[..., :d].view(FP8), scales.view(torch.float32)[..., 0]


@no_type_check
def _check_slots(slots: Tensor, q: Tensor, places: int | None) -> None:
    """Raise ValueError unless slots are int32 [b, places] beside q; any number for None."""
    size = checks.axes(q=(q, "b heads d"), slots=(slots, "b places"))
    if places not in (None, size["places"]):
        raise ValueError(
            f"slots has shape {tuple(slots.shape)}, but there are {places} keys: without "
            "gather=True slots mark keys, one for each."
        )
    if slots.dtype != torch.int32:
        raise ValueError(
            f"slots has dtype {slots.dtype}, but must be torch.int32. Convert with slots.int()."
        )
    checks.same_device(q=q, slots=slots)


@no_type_check  # shapes are checked below, with the same message under pytest and outside it
def score_chunks(
    q: Float[Tensor, "b heads d"],
    weights: Float[Tensor, "b heads"],
    keys: Tensor,
    scales: Float32[Tensor, "b chunks"] | None = None,
    *,
    slots: Int32[Tensor, "b places"] | None = None,
    gather: bool = False,
    round_q: bool = False,
    impl: Impl = "auto",
    validate: bool | None = None,
) -> Float32[Tensor, "b chunks"]:
    """Σ_h w_h · ReLU(q_h · K_s) of one query per batch entry against every chunk's key.

    Args:
        q: float16, bfloat16 or float32, positions already applied.
        weights: of the heads, already scaled; of either sign, any floating dtype.
        keys: in one of three forms: [b, chunks, d] in the dtype of `q`; the same in
            float8_e4m3fn, with `scales`; or stored rows, uint8 [chunks, d + 4] (one store for the
            whole batch) or [b, chunks, d + 4], of which the last four bytes are a float32 scale.
            Rows may lie apart, as in cells that hold more than keys.
        scales: one factor per chunk, for float8_e4m3fn keys only.
        slots: where -1 stands, there is no chunk and the logit is -inf. Without `gather` they
            mark the chunks of `keys`, of which each entry has as many.
        gather: whether slots name the keys to read, in the order of the logits. A store of two
            axes serves the whole batch then, in any dtype.
        round_q: whether to round the queries to e4m3 too, each head by a power of two of its own,
            so that the products run on the tensor cores for 8 bits. Only with 8-bit keys.
        impl: which implementation; see `dispatch.choose`. "auto" takes the oracle for sizes that
            Triton does not serve.
        validate: whether to look for NaN and infinities; None looks on CPU only.

    Returns:
        float32 logits, none of them -0.0, one for each slot where slots gather; the sigmoid is
        left to the reader. With 8-bit keys and without `round_q`,
        Triton takes queries as float16, relative to the greatest value of their head. The oracle
        is differentiable, Triton is not.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, a value is not finite, or Triton was
            asked for and does not serve these sizes.
        RuntimeError: impl="triton" cannot run here.

    Source: arXiv:2606.09079v2, Eq. 4, before the sigmoid; the stored row is the repository's.
    """
    size = checks.axes(q=(q, "b heads d"), weights=(weights, "b heads"))
    b, d = size["b"], size["d"]
    checks.tensors(keys=keys, **({} if scales is None else {"scales": scales}))
    named = {"q": q, "weights": weights, "keys": keys}
    device = checks.same_device(**named, **({} if scales is None else {"scales": scales}))
    for name, tensor in (("q", q), ("weights", weights)):
        if not tensor.dtype.is_floating_point or tensor.dtype.itemsize == 1:
            raise ValueError(
                f"{name} has dtype {tensor.dtype}, but must be float16, bfloat16 or float32. "
                f"Convert with {name}.float()."
            )
    if gather and slots is None:
        raise ValueError("gather=True needs slots, which say what to gather.")
    if gather and keys.ndim == 2 and keys.dtype != torch.uint8:
        keys = keys.expand(b, -1, -1)
    keys, scales = stored(keys, scales, b, d)
    if slots is not None:
        _check_slots(slots, q, None if gather else keys.shape[1])
    if scales is None:
        checks.same_float_dtype(q=q, keys=keys)
        if round_q:
            raise ValueError(
                f"round_q=True goes with 8-bit keys only, but keys has dtype {keys.dtype}. Pass "
                "round_q=False."
            )
    elif scales.dtype != torch.float32:
        raise ValueError(f"scales has dtype {scales.dtype}, but must be torch.float32.")
    unserved = limits.unserved_scores(heads=size["heads"], d=d, dtype=q.dtype, stored=keys.dtype)
    chosen = dispatch.choose_served(impl, device, unserved)
    if checks.wants_values(validate, device):
        if gather and not -1 <= int(slots.min()) <= int(slots.max()) < keys.shape[1]:
            raise ValueError(
                f"slots lie between {int(slots.min())} and {int(slots.max())}, but there are the "
                f"keys 0 to {keys.shape[1] - 1}, and -1 marks an empty slot."
            )
        named = {"q": q, "weights": weights, "keys": keys.float()}
        checks.finite(**named, **({} if scales is None else {"scales": scales}))
    if chosen == "reference":
        from .reference import score_chunks as compute
    else:
        from .triton_kernel import score_chunks as compute
    return compute(q, weights, keys, scales, slots, gather, round_q)
