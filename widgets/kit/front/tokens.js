// A text as tokens: built once per text, afterwards only class names change.

const FOCUS_HEIGHT = 0.25; // where in the box the token in focus comes to stand

// Token i is the thing `token:i` on the bus.
function makeTokens(spec, choose, bus) {
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
  const linkAt = (event) => {
    const index = event.target.dataset?.index;
    return index === undefined ? null : `token:${index}`;
  };
  text.addEventListener("pointerover", (event) => {
    const link = linkAt(event);
    if (link) bus.light(link, "tokens");
  });
  text.addEventListener("pointerleave", () => bus.dark("tokens"));
  text.style.maxHeight = `${spec.height}px`;
  let shownTexts = null;
  let spans = [];
  let focus = 0;
  let lit = [];
  const unsubscribe = bus.subscribe({
    lit(links) {
      for (const span of lit) span.classList.remove("intuitive-lit");
      lit = [...links]
        .map((link) => /^token:(\d+)$/.exec(link))
        .filter(Boolean)
        .map(([, index]) => spans[Number(index)])
        .filter(Boolean);
      for (const span of lit) span.classList.add("intuitive-lit");
    },
  });
  const keepInSight = () => {
    const token = spans[focus];
    if (!token || text.clientHeight === 0) return;
    const top = token.offsetTop;
    const hidden = top < text.scrollTop || top > text.scrollTop + text.clientHeight - 30;
    if (hidden) text.scrollTop = top - text.clientHeight * FOCUS_HEIGHT;
  };
  const onSight = new IntersectionObserver(keepInSight); // nothing has a place before
  onSight.observe(text);
  return {
    element: make("div", { class: "intuitive-text" }, heading, legend, text),
    show(texts, marks, wanted) {
      if (texts !== shownTexts) {
        shownTexts = texts;
        spans = texts.map((piece, index) =>
          make("span", { class: "intuitive-token", "data-index": index, text: piece })
        );
        text.replaceChildren(...spans);
      }
      const bytes = new Uint8Array(marks.buffer, marks.byteOffset, marks.byteLength);
      spans.forEach((span, index) => {
        const [name] = spec.classes[bytes[index]] ?? ["future"];
        const wanted = `intuitive-token intuitive-${name}`;
        if (span.className !== wanted) span.className = wanted;
      });
      focus = wanted;
      keepInSight();
    },
    stop() {
      onSight.disconnect();
      unsubscribe();
    },
  };
}
