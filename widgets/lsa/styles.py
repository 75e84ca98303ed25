"""What the LSA explorers share: colours by meaning, names of the arms.

Blue stands on the GPU, grey on the CPU only; green was needed and found, vermilion was needed and
missed; purple is a score and its threshold; gold are bytes on their way.
"""

from .. import theme

RESIDENT, AWAY = theme.BLUE, theme.GREY
FOUND, MISSED = theme.GREEN, theme.VERMILION
SCORE = theme.PURPLE
MOVED = "#B58100"  # the gold of scenes

ARM_NAMES = {
    "lsa": "trained indexer",
    "oracle": "oracle: knows the future",
    "recency": "the newest",
    "random": "any, at random",
    "quest": "Quest: page bounds",
    "reactive": "fetch when needed",
    "everything": "keep everything",
}
SHORT_NAMES = {
    "lsa": "indexer",
    "oracle": "oracle",
    "recency": "newest",
    "random": "random",
    "quest": "Quest",
    "reactive": "fetch when needed",
    "everything": "everything",
}
RULES = {
    "threshold": "all above the threshold",
    "budget": "the best few",
}
