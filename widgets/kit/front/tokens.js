// A text as tokens: built once per text, afterwards only class names change.

function makeTokens(spec, choose) {
  const text = make("div", { class: "intuitive-tokens", tabindex: 0, role: "region", ...KEEP_KEYS });
  const heading = make("div", { class: "intuitive-heading", text: spec.label });
  const legend = make(
    "div",
    { class: "intuitive-legend" },
    ...spec.classes.map(([name, meaning]) =>
      make(
        "span",
        {},
        make("span", { class: `intuitive-token intuitive-${name}`, text: "Aa" }),
        ` ${meaning}`
      )
    )
  );
  text.setAttribute("aria-label", spec.label);
  text.addEventListener("click", (event) => {
    const index = event.target.dataset?.index;
    if (spec.sets && index !== undefined) choose(Number(index));
  });
  let shownTexts = null;
  let spans = [];
  return {
    element: make("div", { class: "intuitive-text" }, heading, legend, text),
    show(texts, marks) {
      if (texts !== shownTexts) {
        shownTexts = texts;
        spans = texts.map((piece, index) =>
          make("span", { class: "intuitive-token", "data-index": index, text: piece })
        );
        text.replaceChildren(...spans);
      }
      const bytes = new Uint8Array(marks.buffer, marks.byteOffset, marks.byteLength);
      let here = null;
      spans.forEach((span, index) => {
        const [name] = spec.classes[bytes[index]] ?? ["future"];
        const wanted = `intuitive-token intuitive-${name}`;
        if (span.className !== wanted) span.className = wanted;
        if (name === "here") here = span;
      });
      if (here) {
        const top = here.offsetTop;
        if (top < text.scrollTop || top > text.scrollTop + text.clientHeight - 24) {
          text.scrollTop = top - text.clientHeight / 2;
        }
      }
    },
  };
}
