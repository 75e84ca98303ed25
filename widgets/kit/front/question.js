// A check-yourself block: choose, and the kernel computes whether it was right.

function render({ model, el }) {
  const spec = model.get("spec");
  const name = freshId("question");
  const feedback = make("p", { class: "intuitive-feedback", "aria-live": "polite" });
  const inputs = spec.choices.map((choice, index) =>
    make("input", {
      type: "radio",
      name,
      id: `${name}-${index}`,
      value: index,
      ...KEEP_KEYS,
      onchange: () => {
        feedback.textContent = "Computing the answer…";
        feedback.className = "intuitive-feedback";
        model.send({ type: "choose", index });
      },
    })
  );
  el.append(
    make(
      "div",
      {
        class: "intuitive-question",
        role: "radiogroup",
        "aria-labelledby": `${name}-title`,
        "data-question": spec.name,
      },
      make("p", { id: `${name}-title`, text: `Check yourself. ${spec.question}` }),
      ...inputs.map((input, index) =>
        make(
          "div",
          { class: "intuitive-toggle" },
          input,
          make("label", { for: input.id, text: spec.choices[index] })
        )
      ),
      feedback
    )
  );
  const show = () => {
    const chosen = model.get("chosen");
    if (chosen >= 0) inputs[chosen].checked = true;
    const { verdict, right, text } = model.get("feedback");
    if (!verdict) return;
    const lead = { right: "Yes. ", wrong: `No: “${spec.choices[right]}”. `, error: "" }[verdict];
    feedback.textContent = lead + text;
    feedback.className = `intuitive-feedback intuitive-${verdict}`;
  };
  show();
  model.on("change:chosen", show);
  model.on("change:feedback", show);
  return () => {
    model.off("change:chosen", show);
    model.off("change:feedback", show);
  };
}

export default { render };
