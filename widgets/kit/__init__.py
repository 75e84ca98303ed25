"""The explorer kit: what every lesson's widgets are made of.

An explorer is a compute function, a `present` function and a declaration of controls
and plots (docs/explorers.md shows one whole). The rooms, in reading order:

    controls.py   declarations: Range, Choice, Toggle, Text, Action, Hero, Plot, Handle,
                  Tokens, Predict, Step
    view.py       what `present` returns: View, Readout, Table, TokenMarks
    scene.py      the hero as data: Scene and its marks, Timeline and its frames
    numbers.py    how numbers are written
    latest.py     one worker per explorer; the latest request wins
    explorer.py   the widget that ties them together
    questions.py  check-yourself blocks
    answers.py    where predictions and answers are kept
    recording.py  explorers for pages without Python: their states, in one file
    soak.py       random events from two threads, for any explorer
    front/        the browser's side, in plain JavaScript and CSS
"""

from .controls import (
    Action,
    Choice,
    Handle,
    Hero,
    Plot,
    Predict,
    Range,
    Step,
    Text,
    Toggle,
    Tokens,
)
from .explorer import Explorer
from .latest import LatestWins
from .numbers import chosen, fixed, number, percent
from .questions import CheckYourself
from .scene import (
    Arithmetic,
    Arrow,
    Circle,
    Drag,
    Frame,
    Line,
    Mark,
    Path,
    Rectangle,
    Scene,
    Swarm,
    Timeline,
    Words,
)
from .view import Readout, Rows, Table, TokenMarks, View

__all__ = [
    "Action",
    "Arithmetic",
    "Arrow",
    "CheckYourself",
    "Choice",
    "Circle",
    "Drag",
    "Explorer",
    "Frame",
    "Handle",
    "Hero",
    "LatestWins",
    "Line",
    "Mark",
    "Path",
    "Plot",
    "Predict",
    "Range",
    "Readout",
    "Rectangle",
    "Rows",
    "Scene",
    "Step",
    "Swarm",
    "Table",
    "Text",
    "Timeline",
    "Toggle",
    "TokenMarks",
    "Tokens",
    "View",
    "Words",
    "chosen",
    "fixed",
    "number",
    "percent",
]
