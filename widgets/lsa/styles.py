"""What the LSA explorers share: colours by meaning, names of the arms.

Blue stands on the GPU, grey on the CPU only; green was needed and found, vermilion was needed and
missed; purple is a score and its threshold; gold are bytes on their way.
"""

from .. import theme

RESIDENT, AWAY = theme.BLUE, theme.GREY
FOUND, MISSED = theme.GREEN, theme.VERMILION
SCORE = theme.PURPLE
MOVED = "#B58100"  # the gold of scenes

ARM_NAMES = {  # in the order of the lesson
    "everything": "keep everything",
    "recency": "the newest",
    "random": "any, at random",
    "lsa": "trained indexer",
    "quest": "Quest: page bounds",
    "oracle": "oracle: knows the future",
    "reactive": "fetch when needed",
}
SHORT_NAMES = {
    "everything": "everything",
    "recency": "newest",
    "random": "random",
    "lsa": "indexer",
    "quest": "Quest",
    "oracle": "oracle",
    "reactive": "fetch when needed",
}
RECORDINGS = {  # in the order of menus
    "topical": "topical: topics stay",
    "local": "local: said just before",
    "dense": "dense: all topics",
    "topical_2x": "topical, twice as long",
    "letter": "SmolLM2 reads a letter",
    "lease": "SmolLM2 reads a lease",
    "alice": "SmolLM2 reads Alice",
}
RULES = {
    "threshold": "all above the threshold",
    "budget": "the best few",
    "pages": "the fullest pages",
}
