"""What the LCLM explorers share: colours by meaning.

Blue is a bead, a latent token, and grey the raw text that it was folded from; gold are raw words
that came back; purple is a question and the numbers that it asks for; green was kept, vermilion
was lost, and what needs no bead is black or grey.
"""

from .. import theme

RAW, BEAD = theme.GREY, theme.BLUE
RETURNED = "#B58100"  # the gold of scenes
ASKED = theme.PURPLE
KEPT, LOST = theme.GREEN, theme.VERMILION
KIND_NAMES = {  # of tokens, in the order of the lesson
    "word": "words",
    "mark": "marks",
    "name": "names",
    "number": "digits",
    "code": "codes",
}
