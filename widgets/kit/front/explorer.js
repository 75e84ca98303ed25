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
  return {
    element: details,
    show(text) {
      if (code.textContent !== text) code.textContent = text;
      details.hidden = !text;
    },
  };
}

// Python sends the rows while the fold is open.
function makeTable(title, tell) {
  const table = make("table");
  let content = null;
  let built = null;
  const build = () => {
    if (!details.open || !content?.rows || content === built) return;
    const { header, rows } = (built = content);
    const head = make("tr", {}, ...header.map((text) => make("th", { scope: "col", text })));
    const body = rows.map((row) =>
      make(
        "tr",
        {},
        ...row.map((text, column) => make(column ? "td" : "th", column ? { text } : { scope: "row", text }))
      )
    );
    table.replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
  };
  const details = make(
    "details",
    {
      ontoggle() {
        tell(details.open);
        build();
      },
    },
    make("summary", { text: "Values", ...KEEP_KEYS }),
    make(
      "div",
      { class: "intuitive-scroll", tabindex: 0, role: "region", "aria-label": `Values: ${title}`, ...KEEP_KEYS },
      table
    )
  );
  return {
    element: details,
    show(next) {
      content = next;
      details.hidden = !content;
      build();
    },
  };
}

function makePrediction(spec, send) {
  if (!spec) return { element: null, show() {} };
  const card = make("div", {
    class: "intuitive-predict",
    role: "group",
    "aria-label": "Prediction",
    "aria-live": "polite",
    ...KEEP_KEYS,
    onblur: () => card.removeAttribute("tabindex"),
  });
  const button = (text, onclick, more = {}) =>
    make("button", { type: "button", class: "intuitive-button", text, ...KEEP_KEYS, onclick, ...more });
  const show = (prediction, verdict) => {
    const open = prediction === null || prediction === undefined;
    // The pressed button goes; who pressed it stays at the card, and Tab goes on from there.
    const held = card.contains(document.activeElement);
    if (held) {
      card.tabIndex = -1;
      card.focus({ preventScroll: true });
    }
    card.hidden = prediction === "" && !verdict.state && !held;
    if (open) {
      card.replaceChildren(
        make("p", { class: "intuitive-heading", text: `Predict first. ${spec.question}` }),
        make(
          "div",
          { class: "intuitive-choices" },
          ...spec.choices.map((choice) => button(choice, () => send({ type: "predict", choice }))),
          button("Skip", () => send({ type: "predict", choice: null }), {
            class: "intuitive-button intuitive-quiet",
            "data-skip": true,
          })
        ),
        make("p", { class: "intuitive-help", text: "Your answer is kept for you and never graded." })
      );
      return;
    }
    const said = prediction ? ` You said: “${prediction}”. ${spec.after}` : "";
    const told = { computing: "Computing the answer…" }[verdict.state] ?? verdict.text;
    card.replaceChildren(
      make("p", { text: spec.question + (told ? "" : said) }),
      told
        ? make("p", { class: `intuitive-verdict intuitive-${verdict.state}`, "data-verdict": verdict.state, text: told })
        : "",
      button("Predict again", () => send({ type: "forget" }), { class: "intuitive-button intuitive-quiet" })
    );
  };
  return { element: card, show };
}

// Steps: short instructions, each with a button that sets the state it speaks of, and a mark once
// the reader has been there. Where they stand in a row, only the text of the current one is seen.
// The current one is lit while the controls stand where it speaks of, and dark once they are moved;
// controls that come to stand where another step speaks of make that one the current one. In a row
// its text goes with them, and keeps its room: what it says is no longer what is seen. One that
// speaks of a named frame waits until somebody has asked for that frame.
const ANYWHERE = ["first", "last", "play", null, undefined];

function makeSteps(steps, defaults, take) {
  if (!steps.length) return { element: null, visited() {}, again() {}, at() {}, played() {}, reached() {} };
  const states = steps.map(({ sets }) => ({ ...defaults, ...sets }));
  let current = 0;
  let asked = -1; // for its frame
  const items = steps.map((step, index) => {
    const id = freshId("step");
    const mark = make("span", { class: "intuitive-mark", "aria-hidden": "true", text: String(index + 1) });
    const been = make("span", { class: "intuitive-unseen", text: "" });
    const pressed = () => {
      current = asked = index;
      take(index);
    };
    const title = make("span", { text: step.title });
    const button = make(
      "button",
      { type: "button", class: "intuitive-button", "aria-describedby": id, ...KEEP_KEYS, onclick: pressed },
      mark,
      title,
      been
    );
    const text = make("p", { id, text: step.text, "data-instead": "Press a step: it sets what it speaks of." });
    const item = make("li", { "data-step": index }, button, text);
    return { item, mark, been, button };
  });
  let stood = ""; // where the controls were
  let fits = [];
  const at = (values) => {
    fits = states.map((state) => sameValues(state, values));
    const now = JSON.stringify(values);
    if (stood && now !== stood && !fits[current] && fits.includes(true)) current = fits.indexOf(true);
    stood = now;
    items.forEach(({ item, button }, index) => {
      item.toggleAttribute("data-current", index === current);
      item.toggleAttribute("data-told", fits[index] && (asked === index || ANYWHERE.includes(steps[index].frame)));
      if (index === current && fits[index]) button.setAttribute("aria-current", "step");
      else button.removeAttribute("aria-current");
    });
  };
  const visited = (index) => {
    const { item, mark, been } = items[index];
    if (item.dataset.visited) return;
    item.dataset.visited = "true";
    mark.textContent = "✓";
    been.textContent = " (done)";
  };
  return {
    element: make("ol", { class: "intuitive-steps", "aria-label": "Steps" }, ...items.map(({ item }) => item)),
    again: () => ([current, asked] = [0, -1]),
    at,
    visited,
    // The film of the current one runs, whoever started it.
    played: () => fits[current] && visited(current),
    // The picture of these values stands there: whoever set them has been at their steps.
    reached: (values) =>
      states.forEach((state, index) => {
        if (!sameValues(state, defaults) && sameValues(state, values)) visited(index);
      }),
  };
}

// What a button folds out, away from it: the button stays in view, the content is part of the page.
function makeFold(text, content) {
  const id = freshId("fold");
  const button = make("button", {
    type: "button",
    class: "intuitive-fold",
    text,
    "aria-expanded": "false",
    "aria-controls": id,
    ...KEEP_KEYS,
    onclick: () => {
      content.hidden = !content.hidden;
      button.setAttribute("aria-expanded", !content.hidden);
      const bar = button.closest(".intuitive-bar").getBoundingClientRect();
      if (content.hidden || content.getBoundingClientRect().top >= bar.bottom) return;
      content.style.scrollMarginTop = `${bar.height}px`;
      content.scrollIntoView();
    },
  });
  content.classList.add("intuitive-more");
  write(content, { id, role: "group", "aria-label": text });
  content.hidden = true;
  return { button, content };
}

function makeTabs(names, plotsOf, open) {
  if (!names.length) return { element: null, show() {} };
  const stem = freshId("tab");
  const buttons = names.map((name, index) =>
    make("button", {
      type: "button",
      role: "tab",
      id: `${stem}-${index}`,
      "aria-controls": `${stem}-panel-${index}`,
      class: "intuitive-tab",
      text: name,
      ...KEEP_KEYS,
      onclick: () => open(name),
      onkeydown: (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (!step) return;
        const next = (index + step + names.length) % names.length;
        buttons[next].focus();
        open(names[next]);
      },
    })
  );
  const panels = names.map((name, index) =>
    make(
      "div",
      { role: "tabpanel", id: `${stem}-panel-${index}`, "aria-labelledby": `${stem}-${index}`, class: "intuitive-plots" },
      ...plotsOf(name)
    )
  );
  return {
    element: make("div", { class: "intuitive-tabs" }, make("div", { role: "tablist" }, ...buttons), ...panels),
    show(chosen) {
      names.forEach((name, index) => {
        const open = name === chosen;
        buttons[index].setAttribute("aria-selected", String(open));
        buttons[index].tabIndex = open ? 0 : -1;
        panels[index].hidden = !open;
      });
    },
  };
}

const sameValues = (some, all) =>
  Object.entries(some).every(([name, value]) => JSON.stringify(all[name]) === JSON.stringify(value));

function render({ model, el }) {
  const spec = model.get("spec");
  const titleId = freshId("title");
  const liveness = makeLiveness(model);
  const bus = makeBus();
  const root = make("section", {
    class: "intuitive-explorer intuitive-alive",
    "aria-labelledby": titleId,
    "data-explorer": spec.name,
  });

  const save = () => {
    liveness.ask();
    model.save_changes();
  };
  const send = (content) => {
    model.send(content);
    save();
  };
  const set = (values) => {
    model.set("values", { ...model.get("values"), ...values });
    save();
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
  const more = spec.controls.some((control) => control.more) ? makeFold("More controls", group(true)) : null;

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
  const reset = make("button", {
    type: "button",
    class: "intuitive-button intuitive-quiet",
    text: "Reset",
    "data-reset": true,
    ...KEEP_KEYS,
    onclick: () => {
      if (reset.ariaDisabled === "true") return;
      steps.again();
      go(spec.defaults, "start");
      steps.at(model.get("values"));
    },
  });
  const alert = make("div", { class: "intuitive-error", role: "alert" });
  const status = make("div", { class: "intuitive-status" }, statusText, bar, cancel);

  // Figures of plots that move along a timeline come with its frames.
  // One without data lays its shapes over the plot's own.
  const figureOf = (name) => {
    const [moving, still] = [hero?.frame()?.figures?.[name], model.get(`figure_${name}`)];
    if (!moving || moving.data || !still?.data) return moving ?? still;
    const shapes = [...(still.layout.shapes ?? []), ...moving.layout.shapes];
    return { ...still, layout: { ...still.layout, shapes } };
  };
  const hero = spec.hero ? makeHero(spec.hero, { model, bus, set, controls }) : null;
  const plots = spec.plots.map((plot) =>
    makePlot(
      plot,
      model,
      send,
      plot.drag.map((handle) => makeHandle(handle, controls, set)),
      bus,
      figureOf,
      () => theme.now()
    )
  );
  const byName = Object.fromEntries(spec.plots.map((plot, index) => [plot.name, plots[index]]));
  const plotsOf = (tab) => plots.filter((_, index) => spec.plots[index].tab === tab).map((plot) => plot.element);
  const inSight = () => plots.filter((_, index) => ["", model.get("tab")].includes(spec.plots[index].tab));
  const plotsSettled = () => Promise.allSettled(inSight().map((plot) => plot.settled()));
  // plotly measures texts, for which the browser lays out all that has changed before: the rest of
  // a message changes after it, though never later than the browser would paint.
  const afterPlots = async () => {
    await null; // whatever else the message brought is on its way
    await Promise.race([plotsSettled(), painting()]);
  };
  const grid = make("div", { class: "intuitive-plots" }, ...plotsOf(""));
  const tabs = makeTabs(spec.tabs, plotsOf, (name) => {
    model.set("tab", name);
    save();
  });
  const tokens = spec.tokens
    ? makeTokens(spec.tokens, (index) => set({ [spec.tokens.sets]: index }), bus)
    : null;
  const readouts = make("ul", { class: "intuitive-readouts" });
  const said = make("p", { class: "intuitive-said", "aria-live": "polite" });
  const arithmetic = makeArithmetic();
  const summary = make("p", { class: "intuitive-summary", "aria-live": "polite" });
  const table = makeTable(spec.title, (open) => {
    model.set("unfolded", open);
    save();
  });
  const code = makeCode();
  // Unlocked here and now: Python may be at another cell, and has only the verdict to add.
  const prediction = makePrediction(spec.predict, (content) => {
    model.set("prediction", content.type === "forget" ? null : content.choice ?? "");
    send(content);
  });

  // To a state of the controls, and then to a frame of the timeline; a step that asked for it is
  // marked once its picture stands there.
  let onTheWay = null;
  const go = (values, frame, step = null) => {
    onTheWay = { values, frame, step };
    if (sameValues(values, model.get("values")) && root.dataset.state === "done") arrive()();
    else set(values);
  };
  // Answers what is to be done when all is drawn.
  const arrive = () => {
    if (!onTheWay || !sameValues(onTheWay.values, model.get("status").values ?? {})) return () => {};
    const { frame, step } = onTheWay;
    onTheWay = null;
    if (hero && frame !== null && frame !== undefined) hero.seek(frame);
    return () => step !== null && steps.visited(step);
  };
  const steps = makeSteps(spec.steps, spec.defaults, (index) => {
    go({ ...spec.defaults, ...spec.steps[index].sets }, spec.steps[index].frame, index);
    steps.at(model.get("values"));
  });

  const stage = make(
    "div",
    { class: "intuitive-picture" },
    hero ? hero.element : null,
    hero ? said : null,
    hero ? arithmetic.element : null,
    grid,
    tabs.element,
    tokens ? tokens.element : null,
    summary,
    table.element
  );
  const rows = [
    make("div", { class: "intuitive-first" }, group(false), readouts),
    make("div", { class: "intuitive-second" }, more?.button, status),
  ];
  const controlBar = make("div", { class: "intuitive-bar" }, ...rows, liveness.element, alert);
  const body = make(
    "div",
    { class: "intuitive-body" },
    controlBar,
    more?.content,
    make("div", { class: "intuitive-work" }, steps.element, stage),
    code.element
  );
  root.append(
    make("div", { class: "intuitive-head" }, make("h3", { id: titleId, text: spec.title }), reset),
    prediction.element ?? "",
    body
  );
  el.append(root);
  const stopKeeping = keepRoom(readouts, root);
  const stopSticking = stickIfLow(controlBar, rows);

  // Whether the picture is that of the controls, or of a result of theirs that is still growing.
  const isTheirs = () => {
    const now = model.get("status");
    return (now.state !== "computing" || now.growing) && sameValues(model.get("values"), now.values ?? {});
  };
  const waiting = makeWaiting([stage, readouts]);
  const lookWaiting = () => {
    if (!isTheirs()) return waiting.begin();
    waiting.came();
    if (root.dataset.drawn === JSON.stringify(model.get("status").values)) waiting.end();
  };

  const showValues = () => {
    const values = model.get("values");
    for (const [name, value] of Object.entries(values)) controls[name]?.show(value);
    for (const plot of plots) plot.showHandles();
    steps.at(values);
    lookWaiting();
    reset.ariaDisabled = String(sameValues(spec.defaults, values)); // it keeps the focus
  };
  const showBounds = () => {
    for (const [name, bounds] of Object.entries(model.get("bounds"))) controls[name]?.bound(...bounds);
    showValues();
  };
  let readoutsShown = "";
  const showReadouts = (rows) => {
    if (JSON.stringify(rows) === readoutsShown) return;
    readoutsShown = JSON.stringify(rows);
    readouts.replaceChildren(
      ...rows.map(([label, value, alarm, link]) => {
        const item = make(
          "li",
          { class: alarm ? "intuitive-alarm" : null, "data-link": link || null },
          make("span", { text: label }),
          make("strong", { text: value })
        );
        if (link) {
          item.addEventListener("pointerenter", () => bus.light(link, "readout"));
          item.addEventListener("pointerleave", () => bus.dark("readout"));
        }
        return item;
      })
    );
  };
  const showNumbers = () => showReadouts(hero?.frame()?.readouts ?? model.get("info").readouts ?? []);
  // A summary that tells how the film ends waits for the end, in its own room.
  let seenEnd = false;
  const showEnd = (isNew = false) => {
    seenEnd = (seenEnd && !isNew) || !hero || hero.ended();
    summary.style.visibility = model.get("info").told_last && !seenEnd ? "hidden" : "";
  };
  let written = Promise.resolve();
  const showInfo = () => (written = afterPlots().then(writeInfo));
  const writeInfo = () => {
    const info = model.get("info");
    for (const [name, control] of Object.entries(controls)) control.idle?.(info.idle?.[name] ?? "");
    showNumbers();
    bus.setRelated(info.related ?? {});
    if (summary.textContent !== (info.summary ?? "")) summary.textContent = info.summary ?? "";
    showEnd(true);
    table.show(info.table);
    code.show(info.code ?? "");
    showArithmetic();
  };
  let chosen = "";
  const showArithmetic = async () => {
    const line = hero?.frame()?.arithmetic?.[chosen] ?? model.get("info").arithmetic?.[chosen] ?? null;
    arithmetic.show(line, line?.tex ? await loadMotion(model) : null);
  };
  let lit = "";
  const showSaid = () => {
    const text = lit || hero?.frame()?.sentence || "";
    if (said.textContent !== text) said.textContent = text;
  };
  const unsubscribe = bus.subscribe({
    lit(links, main, words) {
      lit = words ?? "";
      showSaid();
      for (const item of readouts.children) {
        item.classList.toggle("intuitive-lit", Boolean(item.dataset.link) && links.has(item.dataset.link));
      }
    },
    chosen(link) {
      chosen = link;
      showArithmetic();
    },
  });
  const showPicture = () => {
    const bytes = model.get("picture");
    if (!hero || !bytes?.byteLength) return;
    hero.show(JSON.parse(new TextDecoder().decode(bytes)), model.get("swarm"), afterPlots());
    // The frame tells once it is drawn, for which the page may have to load d3.
    afterPlots().then(() => {
      showNumbers();
      showSaid();
    });
  };
  const showTokens = () => {
    if (!tokens) return;
    tokens.show(model.get("token_texts"), model.get("token_marks"), model.get("token_focus"));
  };
  const showStatus = async () => {
    const now = model.get("status");
    const failed = now.state === "error";
    const early = now.state === "done" && root.dataset.drawn === undefined; // nothing stands there yet
    statusText.textContent = failed ? "" : early ? "Drawing…" : now.text ?? "";
    alert.textContent = failed ? now.text : "";
    const over = now.state !== "computing";
    // The focus of a button that goes is handed on.
    if (over && document.activeElement === cancel) {
      controlBar.querySelector("[data-control]:enabled")?.focus({ preventScroll: true });
    }
    bar.hidden = cancel.hidden = over;
    if (now.fraction === null || now.fraction === undefined) bar.removeAttribute("value");
    else bar.value = now.fraction;
    root.dataset.state = now.state;
    const [computing, done] = [now.state === "computing", now.state === "done"];
    if (!computing || now.growing) waiting.came();
    lookWaiting();
    if (computing && !now.growing) return; // what stands there is still the picture before
    if (done) await null; // the picture of this status may come with the same message, and after it
    const mark = done ? arrive() : () => {};
    const latest = () => model.get("status").count === now.count;
    await Promise.allSettled([plotsSettled(), hero?.shown(), written]);
    if (isTheirs()) waiting.end();
    if (computing) return;
    mark();
    if (done) steps.reached(now.values ?? {});
    if (latest()) {
      root.dataset.drawn = JSON.stringify(now.values ?? {}); // from here on it moves
      if (early) statusText.textContent = now.text ?? "";
    }
    await hero?.settled();
    if (latest()) {
      root.dataset.settled = now.count;
      root.dataset.values = JSON.stringify(now.values ?? {});
    }
  };
  const showPrediction = () => {
    const given = model.get("prediction");
    prediction.show(given, model.get("verdict") ?? {});
    const locked = Boolean(spec.predict) && (given === null || given === undefined);
    body.hidden = locked;
    reset.hidden = locked;
    root.dataset.locked = locked;
    if (locked && plots.length) requestIdleCallback(() => loadPlotly(model).catch(() => {}));
    if (locked) return;
    for (const plot of inSight()) redraw(plot);
    if (spec.predict && !model.get("verdict")?.state) model.send({ type: "verdict" });
  };
  const showTab = () => {
    tabs.show(model.get("tab"));
    for (const plot of inSight()) redraw(plot);
  };
  const redraw = (plot) =>
    plot.redraw().catch((error) => {
      alert.textContent = `The plot could not be drawn: ${error.message ?? error}. Run the cell again.`;
      root.dataset.state = "error";
    });
  hero?.onFrame((frame) => {
    if (frame.playing && isTheirs()) steps.played();
    showEnd();
    showNumbers();
    showSaid();
    showArithmetic();
    for (const name of Object.keys(frame.figures ?? {})) redraw(byName[name]);
    root.dataset.frame = `${frame.label ?? ""}${frame.stage ? ` · ${frame.stage}` : ""}`;
  });

  const listeners = [
    ["change:values", showValues],
    ["change:bounds", showBounds],
    ["change:info", showInfo],
    ["change:picture", showPicture],
    ["change:token_texts", showTokens],
    ["change:token_marks", showTokens],
    ["change:token_focus", showTokens],
    ["change:prediction", showPrediction],
    ["change:verdict", () => prediction.show(model.get("prediction"), model.get("verdict") ?? {})],
    ["change:tab", showTab],
    ...spec.plots.map((plot) => [`change:figure_${plot.name}`, () => redraw(byName[plot.name])]),
    ["change:status", showStatus],
  ];
  for (const [event, listener] of listeners) model.on(event, listener);

  showBounds();
  showInfo();
  showPicture();
  showTokens();
  tabs.show(model.get("tab"));
  showPrediction();
  for (const plot of plots) plot.start();
  const showAsleep = hideAsleep(root);
  const theme = watchTheme(root, () => {
    inSight().forEach(redraw);
    hero?.theme();
  });
  requestAnimationFrame(() => {
    inSight().forEach(redraw);
    showStatus();
  });
  // What tests and the maker of posters ask of the page.
  root.intuitive = {
    set: (values) => go({ ...spec.defaults, ...values }, null),
    seek: (where) => hero?.seek(where),
    sentences: () => hero?.sentences() ?? [],
    arithmetic: () => Object.keys({ ...model.get("info").arithmetic, ...hero?.frame()?.arithmetic }),
    // At the state that was asked for last, and all of it drawn.
    arrived: () => onTheWay === null && root.dataset.settled === String(model.get("status").count),
    poster() {
      root.classList.add("intuitive-poster");
      const asks = spec.predict ? `${spec.predict.question} ` : "";
      root.append(make("p", { class: "intuitive-run-this", text: `${asks}Run this cell to move it.` }));
      body.hidden = !hero && Boolean(spec.predict); // plots at their defaults would answer it
      go({ ...spec.defaults, ...spec.poster }, "first");
    },
  };

  return () => {
    for (const [event, listener] of listeners) model.off(event, listener);
    theme.stop();
    liveness.stop();
    waiting.stop();
    showAsleep();
    stopKeeping();
    stopSticking();
    unsubscribe();
    for (const plot of plots) plot.stop();
    hero?.stop();
    if (tokens) tokens.stop();
  };
}

export default { render };
