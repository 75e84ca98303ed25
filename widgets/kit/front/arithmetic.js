// The line that a click opens: an equation with its numbers filled in.

function makeArithmetic() {
  const id = freshId("arithmetic");
  const spoken = make("span", { id, class: "intuitive-hidden", "aria-live": "polite" });
  const shown = make("span", { "aria-hidden": "true" });
  const scroll = make(
    "div",
    { class: "intuitive-equation", role: "group", "aria-labelledby": id, tabindex: 0, ...KEEP_KEYS },
    shown
  );
  const note = make("span", { class: "intuitive-note", role: "status" });
  let tex = "";
  const copy = make("button", {
    type: "button",
    class: "intuitive-button intuitive-quiet",
    text: "Copy TeX",
    ...KEEP_KEYS,
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(tex);
        note.textContent = "Copied.";
      } catch {
        note.textContent = `This page may not write to the clipboard: ${tex}`;
      }
    },
  });
  const row = make("div", { class: "intuitive-arithmetic" }, scroll, copy, note);
  row.hidden = true;
  let before = "";
  return {
    element: make("div", {}, row, spoken), // a live region must stand before it speaks
    // `motion` is what loadMotion gave; without it, or without TeX, the text is shown.
    show(line, motion) {
      const now = JSON.stringify([line?.text, line?.tex, Boolean(motion)]);
      if (now === before) return;
      before = now;
      row.hidden = !line;
      note.textContent = "";
      tex = line?.tex ?? "";
      copy.hidden = !tex;
      const text = line?.text ?? "";
      if (spoken.textContent !== text) spoken.textContent = text;
      shown.replaceChildren();
      if (tex && motion) motion.temml.render(tex, shown, { throwOnError: false });
      else shown.textContent = text;
    },
  };
}
