"""What a notebook shows is the tested source."""

import inspect

import pytest

from intuitive.common.decoder import RMSNorm, causal_mask
from intuitive.common.runtime import never
from intuitive.common.show import show_source


def test_the_text_is_the_source():
    shown = show_source(never)
    first, doc, last = repr(shown).splitlines()
    assert first == "def never() -> bool:"
    assert doc.strip().strip('"') == never.__doc__
    assert last == "    return False"
    assert shown._repr_markdown_() == f"```python\n{shown!r}\n```"


def test_several_objects_and_methods():
    shown = repr(show_source(causal_mask, RMSNorm.forward))
    assert inspect.getsource(causal_mask).rstrip() in shown
    assert "\n\ndef forward(" in shown  # a method loses its indentation


def test_what_has_no_source_is_named():
    with pytest.raises(ValueError, match="has no Python source to show"):
        show_source(len)
    with pytest.raises(ValueError, match="needs a function, class or module"):
        show_source()
