"""What a notebook shows is the tested source."""

import inspect

import pytest

from intuitive.common.decoder import RMSNorm, causal_mask
from intuitive.common.runtime import never
from intuitive.common.show import folded, show_part, show_source


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


def test_a_part_is_read_without_importing_its_module():
    module = "intuitive.kernels.block_sparse_attention.triton_forward"
    shown = repr(show_part(module, "_step", "attend"))
    assert shown.startswith("@triton.jit\n@no_type_check\ndef _step(")
    assert "    return add_keys(q, k, v, top, total, acc" in shown and "\n\ndef attend(" in shown


def test_a_folded_part_has_its_lines_without_types():
    whole = repr(show_part("intuitive.kernels.block_scores.reference", "block_scores"))
    shown = show_part("intuitive.kernels.block_scores.reference", "block_scores", fold="Scores")
    first, *lines = repr(shown).splitlines()
    assert first == "def block_scores(q_idx, k_idx, block_size):"
    assert whole.splitlines()[-len(lines) :] == lines and "return scores" in lines[-1]
    told = shown._repr_markdown_()
    assert told.startswith("<details>\n<summary>Scores</summary>\n\n```python\ndef ")
    assert told.endswith("```\n\n</details>")


def test_folded_numbers_are_their_text():
    shown = folded("Numbers", "1\n2")
    assert repr(shown) == "1\n2"
    assert "<summary>Numbers</summary>\n\n```text\n1\n2\n```" in shown._repr_markdown_()


def test_parts_that_are_not_there_are_named():
    with pytest.raises(ValueError, match=r"defines no nothing; there are .*never"):
        show_part("intuitive.common.runtime", "nothing")
    with pytest.raises(ValueError, match="no module"):
        show_part("intuitive.nowhere", "nothing")


def test_bare_functions_are_without_docstring_types_and_shapes():
    whole, bare = (repr(show_source(causal_mask, bare=bare)) for bare in (False, True))
    head, *body = bare.splitlines()
    assert head.startswith("def causal_mask(n, m") and ":" not in head[:-1]
    assert '"""' in whole and '"""' not in bare
    assert body and whole.endswith("\n".join(body))
    assert repr(show_source(RMSNorm, bare=True)) == repr(show_source(RMSNorm))  # a class


def test_a_long_bare_head_is_broken_into_lines():
    first, second, *body = repr(show_source(many, bare=True)).splitlines()
    assert len(first) <= 88 and first.startswith("def many(first, ")
    assert second.startswith("    ") and second.endswith("eleventh=0):")
    assert body == ["    return first"]


def many(first, second, third, fourth, fifth, sixth, seventh, eighth, ninth, *, tenth, eleventh=0):
    """Nothing."""
    return first
