// An explorer's page: question, controls, status, plots, text, numbers, code.

function makeCode() {
  const code = make("code");
  const copied = make("span", { class: "intuitive-note", role: "status" });
  const copy = make("button", {
    type: "button",
    class: "intuitive-button",
    text: "Copy",
    ...KEEP_KEYS,
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        copied.textContent = "Copied.";
      } catch {
        copied.textContent = "This page may not write to the clipboard; select the lines instead.";
      }
    },
  });
  const details = make(
    "details",
    {},
    make("summary", { text: "Show code", ...KEEP_KEYS }),
    make("pre", { tabindex: 0, ...KEEP_KEYS }, code),
    make("div", { class: "intuitive-row" }, copy, copied)
  );
  return { element: details, show: (text) => ((code.textContent = text), (details.hidden = !text)) };
}

function makeTable(title) {
  const table = make("table");
  const details = make(
    "details",
    {},
    make("summary", { text: "Values", ...KEEP_KEYS }),
    make(
      "div",
      { class: "intuitive-scroll", tabindex: 0, role: "region", "aria-label": `Values: ${title}`, ...KEEP_KEYS },
      table
    )
  );
  return {
    element: details,
    show(content) {
      details.hidden = !content;
      if (!content) return;
      const head = make("tr", {}, ...content.header.map((text) => make("th", { scope: "col", text })));
      const rows = content.rows.map((row) =>
        make(
          "tr",
          {},
          ...row.map((text, column) => make(column ? "td" : "th", column ? { text } : { scope: "row", text }))
        )
      );
      table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
    },
  };
}

function makePrediction(spec, send) {
  if (!spec) return { element: null, show() {} };
  const card = make("div", { class: "intuitive-predict" });
  const show = (prediction) => {
    if (prediction === null || prediction === undefined) {
      card.replaceChildren(
        make("p", { class: "intuitive-heading", text: `Predict first. ${spec.question}` }),
        make(
          "div",
          { class: "intuitive-choices" },
          ...spec.choices.map((choice) =>
            make("button", {
              type: "button",
              class: "intuitive-button",
              text: choice,
              ...KEEP_KEYS,
              onclick: () => send({ type: "predict", choice }),
            })
          ),
          make("button", {
            type: "button",
            class: "intuitive-button intuitive-quiet",
            text: "Skip",
            "data-skip": true,
            ...KEEP_KEYS,
            onclick: () => send({ type: "predict", choice: null }),
          })
        ),
        make("p", { class: "intuitive-help", text: "Your answer is kept for you and never graded." })
      );
    } else if (prediction) {
      card.replaceChildren(
        make("p", { text: `${spec.question} You said: “${prediction}”. ${spec.after}` }),
        make("button", {
          type: "button",
          class: "intuitive-button intuitive-quiet",
          text: "Predict again",
          ...KEEP_KEYS,
          onclick: () => send({ type: "forget" }),
        })
      );
    }
    card.hidden = prediction === "";
  };
  return { element: card, show };
}

function render({ model, el }) {
  const spec = model.get("spec");
  const send = (content) => model.send(content);
  const titleId = freshId("title");
  const root = make("section", {
    class: "intuitive-explorer",
    "aria-labelledby": titleId,
    "data-explorer": spec.name,
  });

  const set = (values) => {
    model.set("values", { ...model.get("values"), ...values });
    model.save_changes();
  };
  const controls = Object.fromEntries(
    spec.controls.map((control) => [control.name, makeControl(control, set)])
  );
  const group = (more) => {
    const chosen = spec.controls.filter((control) => control.more === more);
    return make(
      "div",
      { class: "intuitive-controls" },
      ...chosen.map((control) => controls[control.name].element)
    );
  };
  const moreControls = spec.controls.some((control) => control.more)
    ? make("details", {}, make("summary", { text: "More controls", ...KEEP_KEYS }), group(true))
    : null;

  const statusText = make("span", {});
  const bar = make("progress", { max: 1, "aria-label": "progress", hidden: true });
  const cancel = make("button", {
    type: "button",
    class: "intuitive-button",
    text: "Cancel",
    hidden: true,
    ...KEEP_KEYS,
    onclick: () => send({ type: "cancel" }),
  });
  const alert = make("div", { class: "intuitive-error", role: "alert" });
  const status = make("div", { class: "intuitive-status" }, statusText, bar, cancel);

  const plots = spec.plots.map((plot) =>
    makePlot(plot, model, send, plot.drag.map((handle) => makeHandle(handle, controls, set)))
  );
  const byName = Object.fromEntries(spec.plots.map((plot, index) => [plot.name, plots[index]]));
  const grid = make("div", { class: "intuitive-plots" }, ...plots.map((plot) => plot.element));
  const tokens = spec.tokens
    ? makeTokens(spec.tokens, (index) => set({ [spec.tokens.sets]: index }))
    : null;
  const readouts = make("ul", { class: "intuitive-readouts" });
  const summary = make("p", { class: "intuitive-summary", "aria-live": "polite" });
  const table = makeTable(spec.title);
  const code = makeCode();
  const prediction = makePrediction(spec.predict, send);
  const body = make(
    "div",
    { class: "intuitive-body" },
    group(false),
    moreControls,
    status,
    alert,
    make(
      "div",
      { class: "intuitive-picture" },
      readouts,
      grid,
      tokens ? tokens.element : null,
      summary,
      table.element
    ),
    code.element
  );
  root.append(make("h3", { id: titleId, text: spec.title }), prediction.element ?? "", body);
  el.append(root);

  const showValues = () => {
    for (const [name, value] of Object.entries(model.get("values"))) controls[name]?.show(value);
    for (const plot of plots) plot.showHandles();
  };
  const showBounds = () => {
    for (const [name, [min, max]] of Object.entries(model.get("bounds"))) {
      controls[name]?.bound(min, max);
    }
    showValues();
  };
  const showInfo = () => {
    const info = model.get("info");
    readouts.replaceChildren(
      ...(info.readouts ?? []).map(([label, value, alarm]) =>
        make(
          "li",
          { class: alarm ? "intuitive-alarm" : null },
          make("span", { text: label }),
          make("strong", { text: value })
        )
      )
    );
    if (summary.textContent !== (info.summary ?? "")) summary.textContent = info.summary ?? "";
    table.show(info.table);
    code.show(info.code ?? "");
  };
  const showTokens = () => {
    if (!tokens) return;
    tokens.show(model.get("token_texts"), model.get("token_marks"), model.get("token_focus"));
  };
  const showStatus = async () => {
    const now = model.get("status");
    const failed = now.state === "error";
    statusText.textContent = failed ? "" : now.text ?? "";
    alert.textContent = failed ? now.text : "";
    bar.hidden = cancel.hidden = now.state !== "computing";
    if (now.fraction === null || now.fraction === undefined) bar.removeAttribute("value");
    else bar.value = now.fraction;
    root.dataset.state = now.state;
    await Promise.allSettled(plots.map((plot) => plot.settled()));
    if (model.get("status").count === now.count) {
      root.dataset.settled = now.count;
      root.dataset.values = JSON.stringify(now.values ?? {});
    }
  };
  const showPrediction = () => {
    const given = model.get("prediction");
    prediction.show(given);
    const locked = Boolean(spec.predict) && (given === null || given === undefined);
    body.hidden = locked;
    root.dataset.locked = locked;
    if (!locked) for (const plot of plots) redraw(plot);
  };
  const redraw = (plot) =>
    plot.redraw().catch((error) => {
      alert.textContent = `The plot could not be drawn: ${error.message ?? error}. Run the cell again.`;
      root.dataset.state = "error";
    });

  const listeners = [
    ["change:values", showValues],
    ["change:bounds", showBounds],
    ["change:info", showInfo],
    ["change:token_texts", showTokens],
    ["change:token_marks", showTokens],
    ["change:token_focus", showTokens],
    ["change:prediction", showPrediction],
    ...spec.plots.map((plot) => [`change:figure_${plot.name}`, () => redraw(byName[plot.name])]),
    ["change:status", showStatus],
  ];
  for (const [event, listener] of listeners) model.on(event, listener);

  showBounds();
  showInfo();
  showTokens();
  showPrediction();
  for (const plot of plots) plot.start();
  const stopWatchingTheme = watchTheme(root, () => plots.forEach(redraw));
  requestAnimationFrame(() => {
    plots.forEach(redraw);
    showStatus();
  });

  return () => {
    for (const [event, listener] of listeners) model.off(event, listener);
    stopWatchingTheme();
    for (const plot of plots) plot.stop();
    if (tokens) tokens.stop();
  };
}

export default { render };
