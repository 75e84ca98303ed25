"""Colours of the cost meter, the trace and the measured runs, by meaning.

Orange is raw text and what is kept of it; blue are latents and what is kept of them; sky is the
encoder at work; purple is what is asked and chosen; green is right. Grey was there anyhow.
"""

RAW, LATENT, ENCODER = "vermilion", "blue", "sky"
ASKED, RIGHT, WRONG = "purple", "green", "grey"
WEIGHTS, LOGITS = "grey", "gold"
