"""What the LSA explorers share: colours by meaning, names and looks of the arms.

Blue stands on the GPU, grey on the CPU only; green was needed and found, vermilion was needed and
missed; purple is a score and its threshold; gold are bytes on their way. Where arms are compared,
each has one colour in every picture and plot: purple is the trained indexer, which goes by its
scores, gold is fetching on demand, which copies, green the oracle.
"""

from .. import theme

BLUE, SKY, GOLD = "#1A80C0", "#3A9BD9", "#B58100"  # those of scenes, clear on both pages
RESIDENT, AWAY = BLUE, theme.GREY
FOUND, MISSED = theme.GREEN, theme.VERMILION
SCORE = theme.PURPLE
MOVED = GOLD

ARM_NAMES = {  # in the order of the lesson
    "everything": "keep everything",
    "recency": "the newest",
    "random": "any, at random",
    "lsa": "trained indexer",
    "quest": "Quest: page bounds",
    "oracle": "oracle: knows the future",
    "reactive": "fetch when needed",
}
ARM_COLOURS = {  # in scenes and in plots
    "lsa": ("purple", theme.PURPLE),
    "reactive": ("gold", GOLD),
    "oracle": ("green", theme.GREEN),
    "quest": ("blue", BLUE),
    "recency": ("sky", SKY),
    "random": ("grey", theme.GREY),
    "everything": ("grey", theme.GREY),
    "yours": ("vermilion", theme.VERMILION),
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
