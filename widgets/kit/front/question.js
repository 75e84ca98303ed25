// A check-yourself block: choose, and the kernel computes whether it was right. Choices are
// buttons: nothing is chosen before the reader does, and the same one can be taken again.

function render({ model, el }) {
  const spec = model.get("spec");
  const titleId = freshId("question");
  const feedback = make("p", { class: "intuitive-feedback", "aria-live": "polite" });
  const liveness = makeLiveness(model);
  const send = (index) => {
    model.send({ type: "choose", index });
    liveness.ask();
    model.save_changes();
  };
  const buttons = spec.choices.map((choice, index) =>
    make("button", {
      type: "button",
      class: "intuitive-button",
      "aria-pressed": "false",
      text: choice,
      ...KEEP_KEYS,
      onclick: () => send(index),
    })
  );
  el.append(
    make(
      "div",
      {
        class: "intuitive-question intuitive-alive",
        role: "group",
        "aria-labelledby": titleId,
        "data-question": spec.name,
      },
      make("p", { id: titleId, text: `Check yourself. ${spec.question}` }),
      make("div", { class: "intuitive-choices" }, ...buttons),
      liveness.element,
      feedback
    )
  );
  const show = () => {
    const chosen = model.get("chosen");
    const { verdict, right, text } = model.get("feedback");
    buttons.forEach((button, index) => {
      button.setAttribute("aria-pressed", String(index === chosen));
      button.dataset.verdict = index === chosen && verdict !== undefined ? verdict : "";
    });
    feedback.className = `intuitive-feedback intuitive-${verdict ?? "none"}`;
    if (verdict === undefined) feedback.textContent = "";
    else if (verdict === "computing") feedback.textContent = "Computing the answer…";
    else {
      const lead = { right: "Yes. ", wrong: `No, it is “${spec.choices[right]}”. `, error: "" }[verdict];
      feedback.textContent = lead + text;
    }
  };
  show();
  const showAsleep = hideAsleep(el);
  model.on("change:chosen", show);
  model.on("change:feedback", show);
  if (model.get("chosen") >= 0 && model.get("feedback").verdict === undefined) {
    send(model.get("chosen")); // restored from another day: show its verdict
  }
  return () => {
    model.off("change:chosen", show);
    model.off("change:feedback", show);
    liveness.stop();
    showAsleep();
  };
}

export default { render };
