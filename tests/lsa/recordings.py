"""Recordings drawn at random, with every kind of chunk in them."""

import torch

from intuitive.common.runtime import seeded
from intuitive.lsa.recording import Recording


def draw_recording(seed=0, *, steps=37, n_prompt=62, chunk_size=4, layers=2, share=0.06):
    """Two topics, the first more often needed at first; scores know a little about what comes."""
    draw = seeded(seed)
    closed = (n_prompt + torch.arange(steps)) // chunk_size
    chunks = (n_prompt + steps) // chunk_size
    shape = (steps, chunks)
    exists = torch.arange(chunks) < closed[:, None]
    needed = (torch.rand(shape, generator=draw) < share) & exists
    native = torch.randn(shape, generator=draw) + 3 * needed
    mass = (native * 2).masked_fill(~exists, -torch.inf).softmax(-1) * 0.7
    later = needed.float().flip(0).cumsum(0).flip(0)[:, None]
    scores = torch.randn(steps, layers, chunks, generator=draw) + later.clamp(max=1) - 1.2
    bounds = torch.randn(shape, generator=draw)
    return Recording(
        name="drawn",
        words=tuple(f" w{i}" for i in range(n_prompt + steps)),
        n_prompt=n_prompt,
        chunk_size=chunk_size,
        closed=closed,
        needed=needed,
        mass=mass,
        scores=scores.masked_fill(~exists[:, None], -torch.inf),
        native=native.masked_fill(~exists, -torch.inf),
        bounds=bounds.masked_fill(~exists, -torch.inf),
        sections=((0, "birds"), (20, "rivers – Flüsse")),
        source="drawn at random",
    )
