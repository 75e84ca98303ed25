"""The steps of "Block selection": how blocks are chosen, and three ways to break it."""

from ..kit import Step

READ_ON = 7  # queries that are played one after another
STAGES, QUERIES = "stages", "queries"

STEPS = (
    Step(
        title="Read the recent",
        text="“writing” and then “-”: what came next, last time? A window reads the newest "
        "blocks and the first. Follow the empty pipe.",
        sets={"selector": "window_sink"},
        frame="play",
    ),
    Step(
        title="Let scores choose",
        text="As many blocks, but each is worth its best token. Three dots go past the cut: which "
        "of their lines holds what “-” wants?",
        sets={"selector": "main_max"},
        frame="play",
    ),
    Step(
        title="Why not the mean?",
        text="“sit down”: last time “in” came next. The first block is read now too, but “in” is "
        "one tall bar among sixteen. Click the number 9: what is its mean? Then choose the max.",
        sets={"selector": "main_mean", "query": 259},
        frame="play",
    ),
    Step(
        title="Read on",
        text="Word after word toward “writing-”, where the slider stands. Other lines light up "
        "each time; watch for the riddle.",
        sets={"play": QUERIES},
        frame="play",
    ),
)

BROKEN = {"selector": "main_mean", "query": 674}  # “could”: what breaking it starts from
BREAKS = (
    Step(
        title="Mean instead of maximum",
        text="At “could” a block is worth the mean of its scores. The tallest bar stands in block "
        "0: is it read? Watch “attention captured”.",
        frame="play",
    ),
    Step(
        title="An untrained index",
        text="The same projections, drawn at random. Are its blocks better than the mean's? Watch "
        "“attention captured”, then choose the trained index.",
        sets={"selector": "untrained_index"},
        frame="play",
    ),
    Step(
        title="Only its own block",
        text="One block may be read, and it has to be the word's own: nothing is left to choose. "
        "Watch “attention captured”.",
        sets={"selector": "main_max", "n_selected": 1},
        frame="play",
    ),
    Step(
        title="No local block",
        text="One block again, and no place is kept for its own. Which one wins, and does the "
        "number rise or fall? Which words are no longer seen?",
        sets={"selector": "main_max", "n_selected": 1, "n_local": 0},
        frame="play",
    ),
)
