"""The reference: every public name is there, and says what it is."""

import importlib

import book_reference as reference
import griffe
import pytest

ROOMS = sorted(name for name, module in reference.modules().items() if module.is_package)


@pytest.fixture(scope="module")
def pages():
    """The body of every page by its address."""
    return {address: body for address, (_, body) in reference.pages().items()}


@pytest.mark.parametrize("room", ROOMS)
def test_all_that_a_door_offers_can_be_had_and_is_told(room, pages):
    offered = getattr(importlib.import_module(room), "__all__", [])
    for name in offered:
        if name.startswith("_"):
            continue
        address, _, anchor = reference.names()[f"{room}.{name}"].partition("#")
        assert not anchor or f'id="{anchor}"' in pages[address], name


def test_every_name_has_its_place(pages):
    assert len(reference.names()) > 2000
    for name, place in reference.names().items():
        address, _, anchor = place.partition("#")
        assert address in pages and (not anchor or f'id="{anchor}"' in pages[address]), name


def test_every_function_and_class_says_what_it_is():
    silent = [
        f"{name}.{one.name}"
        for name, module in reference.modules().items()
        for one in (*module.members(griffe.Function), *module.members(griffe.Class))
        if one.docstring is None
    ]
    assert silent == []
    assert [name for name, module in reference.modules().items() if not module.docstring] == []


def test_a_function_stands_with_its_signature_and_its_sections(pages):
    page = pages["api/intuitive.msa.reference.html"]
    at = page.index('id="index_branch"')
    part = page[at : page.index("<h2", at)]
    assert "w_q" in part and "Index queries, one head per GQA group" in part
    for title in ("Takes", "Returns", "Raises"):
        assert f"<strong>{title}</strong>" in part
    assert "<code>norm_q</code>: weight of the per-head RMSNorm" in part
    assert "Source: arXiv" in part


def test_a_class_stands_with_its_fields_and_their_comments(pages):
    page = pages["api/intuitive.msa.config.html"]
    assert "# tokens per key block" in page and 'id="MSAConfig.paper"' in page
    assert 'id="MSAConfig.group_size"' in page and page.count("group_size") == 3  # a property


def test_private_names_and_texts_are_left_out(pages):
    assert not any("common.text" in address or "._" in address for address in pages)
    assert "_rotate_first" not in pages["api/intuitive.msa.reference.html"]


def test_names_in_words_are_links(pages):
    door = pages["api/intuitive.msa.html"]
    assert '<a href="../api/intuitive.kernels.html"><code>intuitive.kernels</code></a>' in door
    assert 'href="../api/intuitive.msa.config.html#MSAConfig"' in door
    own = pages["api/intuitive.msa.reference.html"]
    assert '<a href="#index_branch"><code>index_branch</code></a>' in own
