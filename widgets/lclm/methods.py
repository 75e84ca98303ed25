"""Scene colours of the cost meter, the trace and the measured runs, by the meanings of `styles`.

Grey is raw text and what is kept of it, blue are latents and what is kept of them, sky is the
encoder at work, gold is raw text that came back, purple is what is asked and named, green is right,
vermilion is wrong or for nothing. Where time is told, purple is the choosing of what to drop.
"""

RAW, LATENT, ENCODER, RETURNED = "grey", "blue", "sky", "gold"
CHOOSING = "purple"
ASKED, RIGHT, WRONG = "purple", "green", "vermilion"
WEIGHTS, LOGITS = "faint", "vermilion"
