"""Points that can be dragged: declared beside the sliders that they move."""

import pytest

from intuitive.widgets.kit import Choice, Explorer, Handle, Plot, Range, View
from intuitive.widgets.kit.controls import Declaration

PEAK = Range(name="peak", label="Peak", min=-2, max=2, step=0.1)
HEIGHT = Range(name="height", label="Height", values=(0.25, 1, 4))
KIND = Choice(name="kind", label="Kind", options={"round": "round"})


def declared(*handles, controls=(PEAK, HEIGHT, KIND)):
    plot = Plot(name="curve", label="a curve", drag=handles)
    return Declaration(name="hill", title="A hill", controls=controls, plots=(plot,))


def test_the_page_learns_what_a_handle_sets():
    one = Handle(x=0.5, y="peak", axes=("x2", "y"), label="peak", colour="#0072B2")
    both = Handle(x="peak", y="height", colour="#0072B2")
    first, second = declared(one, both).spec()["plots"][0]["drag"]
    assert first["sets"] == ("peak",) and first["axes"] == ("x2", "y") and first["x"] == 0.5
    assert second["sets"] == ("peak", "height") and second["axes"] == ("x", "y")


def test_plots_without_handles_stay_as_they_are():
    assert declared().spec()["plots"][0]["drag"] == []


def test_a_handle_sets_something():
    with pytest.raises(ValueError, match=r"handle at x=1, y=2\.5 sets nothing: name a control"):
        Handle(x=1, y=2.5, colour="#0072B2")


@pytest.mark.parametrize("name", ["kind", "width"], ids=["no slider", "no control"])
def test_a_handle_has_a_slider_twin(name):
    with pytest.raises(ValueError, match=rf"'curve' sets '{name}', which is no Range"):
        declared(Handle(x=name, y=0, colour="#0072B2"))


def test_an_explorer_takes_what_a_handle_sends(tmp_path, monkeypatch):
    """Dragging arrives as values of the sliders, checked and bounded as theirs."""
    monkeypatch.setenv("INTUITIVE_HOME", str(tmp_path))

    def params(peak):
        if abs(peak) > 2:
            raise ValueError(f"peak={peak} must lie in [-2, 2]: choose a value in there.")
        return peak

    explorer = Explorer(
        name="hill",
        title="A hill",
        params=params,
        compute=lambda peak, **_: peak,
        present=lambda peak: View(
            summary=f"At {peak:g}.", figures={"curve": {"data": [], "layout": {}}}
        ),
        controls=(PEAK,),
        plots=(
            Plot(name="curve", label="a curve", drag=(Handle(x="peak", y=0, colour="#0072B2"),)),
        ),
        defaults={"peak": 0.5},
    )
    explorer.set_state({"values": {"peak": -1.5}})
    assert explorer.wait(5) and explorer.summary == "At -1.5."
    explorer.set_state({"values": {"peak": 7}})
    assert explorer.status["text"].startswith("Peak = 7.0 must lie in [-2, 2]")
    explorer.close()
