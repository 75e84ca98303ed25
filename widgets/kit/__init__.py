"""The explorer kit: what every lesson's widgets are made of.

An explorer is a compute function, a `present` function and a declaration of controls
and plots (docs/explorers.md shows one whole). The rooms, in reading order:

    controls.py   declarations: Range, Choice, Toggle, Text, Action, Plot, Handle,
                  Tokens, Predict
    view.py       what `present` returns: View, Readout, Table, TokenMarks
    latest.py     one worker per explorer; the latest request wins
    explorer.py   the widget that ties them together
    questions.py  check-yourself blocks
    answers.py    where predictions and answers are kept
    soak.py       random events from two threads, for any explorer
    front/        the browser's side, in plain JavaScript and CSS
"""

from .controls import Action, Choice, Handle, Plot, Predict, Range, Text, Toggle, Tokens
from .explorer import Explorer
from .latest import LatestWins
from .questions import CheckYourself
from .view import Readout, Table, TokenMarks, View

__all__ = [
    "Action",
    "CheckYourself",
    "Choice",
    "Explorer",
    "Handle",
    "LatestWins",
    "Plot",
    "Predict",
    "Range",
    "Readout",
    "Table",
    "Text",
    "Toggle",
    "TokenMarks",
    "Tokens",
    "View",
]
