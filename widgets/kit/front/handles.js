// Points of a plot that can be dragged. A handle stands where its sliders stand, and dragging it
// moves them: bounds, steps and keyboard are the sliders' own.

function makeHandle(spec, controls, set) {
  const dot = make("div", { class: "intuitive-dot", style: `background: ${spec.colour}` });
  const element = make(
    "div",
    { class: "intuitive-handle", "aria-hidden": "true", "data-handle": spec.sets.join(" ") },
    dot,
    spec.label ? make("span", { text: spec.label }) : null
  );
  element.hidden = true;
  const sliders = Object.fromEntries(spec.sets.map((name) => [name, controls[name]]));
  const directions = ["x", "y"].map((direction, index) => ({
    axisName: spec.axes[index].replace(direction, `${direction}axis`),
    place: spec[direction],
    side: direction === "x" ? "left" : "top",
    pointer: direction === "x" ? "clientX" : "clientY",
  }));
  let plot = null;
  let held = null; // how far beside the point the pointer took hold of it

  const axisOf = ({ axisName }) => plot?._fullLayout?.[axisName];
  const valueOf = (place) => (typeof place === "string" ? sliders[place].value() : place);
  const pixelOf = (direction) => {
    const axis = axisOf(direction);
    const pixel = axis.d2p(valueOf(direction.place));
    return axis._offset + Math.min(Math.max(pixel, 0), axis._length);
  };
  const show = () => {
    element.hidden = !directions.every(axisOf);
    if (element.hidden) return;
    for (const direction of directions) {
      element.style[direction.side] = `${pixelOf(direction)}px`;
    }
  };
  const tell = () => {
    set(Object.fromEntries(spec.sets.map((name) => [name, sliders[name].value()])));
  };

  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault(); // no selection of text, no scrolling
    element.setPointerCapture(event.pointerId);
    const corner = plot.getBoundingClientRect();
    held = directions.map(
      (direction) => event[direction.pointer] - corner[direction.side] - pixelOf(direction)
    );
    sliders[spec.sets[0]].focusable.focus({ preventScroll: true }); // arrow keys go on from here
  });
  element.addEventListener("pointermove", (event) => {
    if (!held) return;
    const corner = plot.getBoundingClientRect();
    const before = spec.sets.map((name) => sliders[name].value());
    directions.forEach((direction, index) => {
      if (typeof direction.place !== "string") return;
      const axis = axisOf(direction);
      const pixel = event[direction.pointer] - corner[direction.side] - held[index];
      sliders[direction.place].moveTo(axis.p2d(pixel - axis._offset));
    });
    show();
    const moved = spec.sets.some((name, index) => sliders[name].value() !== before[index]);
    if (moved && spec.sets.every((name) => sliders[name].live)) tell();
  });
  const release = () => {
    if (!held) return;
    held = null;
    tell();
  };
  element.addEventListener("pointerup", release);
  element.addEventListener("pointercancel", release);

  return {
    element,
    show(drawn = plot) {
      plot = drawn;
      show();
    },
  };
}
