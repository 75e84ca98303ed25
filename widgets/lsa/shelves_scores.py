"""By what each arm chooses at a trigger: scores in [0, 1], and the line that cuts them."""

import numpy as np

from intuitive.lsa.experiments.measures import Measures

SCORED = ("lsa", "oracle", "quest")  # arms that weigh chunks one by one


def probability(logits: np.ndarray) -> np.ndarray:
    """The sigmoid; 0 for -inf."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-logits.astype(np.float64)))


class Scores:
    """What a policy's triggers went by; a cycle is the steps from one trigger to the next."""

    def __init__(self, measures: Measures) -> None:
        self.policy, self.arm = measures.policy, measures.policy.arm
        self.recording, residency = measures.recording, measures.residency
        self.cycles = list(range(0, self.recording.n_steps, self.policy.lookahead))
        self.evictable = residency.evictable.numpy()
        self.resident = residency.resident.numpy()
        self.exist = self.arm in SCORED
        self.has_threshold = self.arm == "lsa" and self.policy.rule != "budget"
        self.by_pages = self.arm == "lsa" and self.policy.rule == "pages"
        self._of: dict[int, np.ndarray] = {}

    def cycle(self, step: int) -> int:
        return step // self.policy.lookahead

    def asked(self, cycle: int) -> int:
        """The cycle at whose trigger this one was decided; -1 where nothing has arrived yet."""
        return cycle if self.arm == "oracle" else cycle - self.policy.lag

    def logits(self, cycle: int) -> np.ndarray:
        """Memory logits of the layers that vote [layers, chunks], where a cycle was decided."""
        at = self.cycles[self.asked(cycle)]
        return self.recording.scores[at, : self.policy.layers].numpy()

    def of(self, cycle: int) -> np.ndarray:
        """Scores of the old chunks; 0 elsewhere, and where nothing has arrived yet."""
        if cycle not in self._of:
            old = self.evictable[self.cycles[cycle]]
            found = np.zeros(self.recording.n_chunks)
            if self.asked(cycle) >= 0 and old.any():
                make = {"lsa": self._indexer, "oracle": self._oracle, "quest": self._quest}
                found = make[self.arm](cycle, old)
            self._of[cycle] = np.where(old, found, 0.0)
        return self._of[cycle]

    def _indexer(self, cycle: int, old: np.ndarray) -> np.ndarray:
        return probability(self.logits(cycle).max(0))

    def _oracle(self, cycle: int, old: np.ndarray) -> np.ndarray:
        """The attention that a chunk will get, needed chunks above all others; to scale."""
        start = self.cycles[cycle]
        ahead = slice(start, start + self.policy.lookahead)
        mass = self.recording.mass.numpy()[ahead].sum(0)
        needed = self.recording.needed.numpy()[ahead].any(0)
        share = np.sqrt(mass / max(float(mass[old].max()), 1e-9)).clip(0, 1)
        return np.where(needed, 0.55 + 0.45 * share, 0.45 * share)

    def _quest(self, cycle: int, old: np.ndarray) -> np.ndarray:
        """Bounds between the least and the greatest of the old chunks."""
        bounds = self.recording.bounds[self.cycles[self.asked(cycle)]].numpy().astype(np.float64)
        there = old & np.isfinite(bounds)
        if not there.any():
            return np.zeros_like(bounds)
        low, high = bounds[there].min(), bounds[there].max()
        return np.where(there, (bounds - low) / max(high - low, 1e-9), 0.0)

    def lifted(self, cycle: int) -> np.ndarray:
        """Old chunks that are on the GPU in this cycle."""
        at = self.cycles[cycle]
        return self.evictable[at] & self.resident[at]

    def cut(self, cycle: int) -> float:
        """The threshold; where there is none, the middle between what rises and what does not."""
        if self.has_threshold:
            return self.policy.threshold
        scores, lifted = self.of(cycle), self.lifted(cycle)
        if not lifted.any():
            return 1.0
        least = float(scores[lifted].min())
        rest = scores[~lifted & self.evictable[self.cycles[cycle]]]
        below = rest[rest < least]
        return (least + float(below.max())) / 2 if len(below) else least / 2
