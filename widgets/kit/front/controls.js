// Native, labelled controls. Each maker returns {element, show(value), bound(min, max)}; a range
// also says where it stands and lets itself be moved: {value(), moveTo(number), live}; a choice can
// stand idle: disabled, with the reason in the place of its option.

function readOut(spec, position) {
  if (spec.values.length) {
    const text = spec.texts.length ? spec.texts[position] : String(spec.values[position]);
    return spec.unit ? `${text} ${spec.unit}` : text;
  }
  const decimals = (String(spec.step).split(".")[1] || "").length;
  const text = Number(position).toFixed(decimals).replace(/^-(0\.?0*)$/, "$1").replace("-", "−");
  return spec.unit ? `${text} ${spec.unit}` : text;
}

function makeRange(spec, change) {
  const id = freshId("range");
  const listed = spec.values.length > 0;
  const output = make("output", { for: id });
  const input = make("input", {
    id,
    type: "range",
    min: listed ? 0 : spec.min,
    max: listed ? spec.values.length - 1 : spec.max,
    step: listed ? 1 : spec.step,
    "data-control": spec.name,
    "data-values": listed ? JSON.stringify(spec.values) : null,
    ...KEEP_KEYS,
  });
  const read = () => {
    const text = readOut(spec, Number(input.value));
    if (output.textContent === text) return;
    output.textContent = text;
    input.setAttribute("aria-valuetext", text);
  };
  const value = () => (listed ? spec.values[Number(input.value)] : Number(input.value));
  const tell = () => change(value());
  input.addEventListener("input", () => {
    read();
    if (spec.live) tell();
  });
  if (!spec.live) input.addEventListener("change", tell);
  return {
    element: make(
      "div",
      { class: "intuitive-control" },
      make("div", { class: "intuitive-label" }, make("label", { for: id, text: spec.label }), output),
      input
    ),
    focusable: input,
    live: spec.live,
    value,
    // The browser keeps a slider within its ends and on its steps.
    moveTo(number) {
      const far = spec.values.map((listed) => Math.abs(listed - number));
      input.value = listed ? far.indexOf(Math.min(...far)) : number;
      read();
    },
    show(value) {
      input.value = listed ? spec.values.indexOf(value) : value;
      read();
    },
    bound(min, max) {
      if (listed) return;
      input.min = min;
      input.max = max;
    },
  };
}

function makeChoice(spec, _change, set) {
  const id = freshId("choice");
  const select = make(
    "select",
    {
      id,
      "data-control": spec.name,
      ...KEEP_KEYS,
      onchange: () => set({ ...spec.sets[select.value], [spec.name]: select.value }),
    },
    ...spec.options.map(([value, text]) => make("option", { value, text }))
  );
  const why = make("option", { value: "" });
  let now = "";
  const show = (value) => {
    now = value;
    if (!select.disabled) select.value = value;
  };
  return {
    element: make(
      "div",
      { class: "intuitive-control" },
      make("div", { class: "intuitive-label" }, make("label", { for: id, text: spec.label })),
      select
    ),
    focusable: select,
    show,
    // Only what the data has is offered.
    bound(...offered) {
      for (const option of select.options) {
        if (option !== why) option.hidden = option.disabled = !offered.includes(option.value);
      }
    },
    idle(reason) {
      if (select.disabled === Boolean(reason) && why.textContent === reason) return;
      why.textContent = reason;
      select.disabled = Boolean(reason);
      if (reason) select.append(why);
      else why.remove();
      why.selected = Boolean(reason);
      show(now);
    },
  };
}

function makeToggle(spec, change) {
  const id = freshId("toggle");
  const input = make("input", {
    id,
    type: "checkbox",
    "data-control": spec.name,
    ...KEEP_KEYS,
    onchange: () => change(input.checked),
  });
  return {
    element: make(
      "div",
      { class: "intuitive-control intuitive-toggle" },
      input,
      make("label", { for: id, text: spec.label })
    ),
    focusable: input,
    show: (value) => (input.checked = value),
    bound() {},
  };
}

// A file's bytes as text: UTF-8, or UTF-16 by its mark, or the old Western encoding; the reader is
// told which, and a file that is no text is refused.
function readText(bytes) {
  const decode = (encoding, fatal = true) => new TextDecoder(encoding, { fatal }).decode(bytes);
  const mark = bytes[0] === 0xff && bytes[1] === 0xfe ? "utf-16le" : bytes[0] === 0xfe && bytes[1] === 0xff ? "utf-16be" : "";
  if (mark) return { text: decode(mark, false), as: ", read as UTF-16" };
  if (bytes.includes(0)) throw new Error("it holds NUL bytes, so it is no text. Choose a text file.");
  try {
    return { text: decode("utf-8"), as: "" };
  } catch {
    const strange = bytes.filter((byte) => byte < 9 || (byte > 13 && byte < 32)).length;
    if (strange > bytes.length / 100) throw new Error("it is no text. Choose a text file.");
    return {
      text: decode("windows-1252", false),
      as: ", read as Windows-1252 (Latin-1) since it is not UTF-8: check its accents",
    };
  }
}

function makeText(spec, _change, set) {
  const id = freshId("text");
  const fileId = freshId("file");
  const area = make("textarea", { id, rows: 3, "data-control": spec.name, ...KEEP_KEYS });
  const note = make("span", { class: "intuitive-note", role: "status" });
  const file = make("input", {
    id: fileId,
    type: "file",
    accept: ".txt,.md,.py,text/*",
    ...KEEP_KEYS,
    onchange: async () => {
      const chosen = file.files[0];
      if (!chosen) return;
      if (chosen.size > spec.max_bytes) {
        note.textContent =
          `${chosen.name} has ${chosen.size} bytes; at most ${spec.max_bytes} are read here. ` +
          "Choose a smaller file or paste a part of it.";
        return;
      }
      try {
        const { text, as } = readText(new Uint8Array(await chosen.arrayBuffer()));
        area.value = text;
        note.textContent = `${chosen.name} is in the box${as}; press “${spec.button}”.`;
      } catch (error) {
        note.textContent = `${chosen.name}: ${error.message}`;
      }
    },
  });
  const button = make("button", {
    type: "button",
    class: "intuitive-button",
    text: spec.button,
    ...KEEP_KEYS,
    onclick: () => {
      note.textContent = "";
      set({ ...spec.sets, [spec.name]: area.value });
    },
  });
  return {
    element: make(
      "div",
      { class: "intuitive-control intuitive-wide" },
      make("div", { class: "intuitive-label" }, make("label", { for: id, text: spec.label })),
      area,
      make(
        "div",
        { class: "intuitive-row" },
        button,
        make("label", { for: fileId, text: "or a file" }),
        file,
        note
      )
    ),
    focusable: area,
    show(value) {
      if (document.activeElement !== area) area.value = value || (spec.own ?? "");
    },
    bound() {},
  };
}

function makeAction(spec, change) {
  let count = 0;
  const button = make("button", {
    type: "button",
    class: "intuitive-button",
    text: spec.label,
    disabled: Boolean(spec.disabled),
    "data-control": spec.name,
    ...KEEP_KEYS,
    onclick: () => change(count + 1),
  });
  return {
    element: make(
      "div",
      { class: "intuitive-control" },
      button,
      spec.disabled ? make("span", { class: "intuitive-note", text: spec.disabled }) : null
    ),
    focusable: button,
    show: (value) => (count = value),
    bound() {},
  };
}

const MAKERS = {
  range: makeRange,
  choice: makeChoice,
  toggle: makeToggle,
  text: makeText,
  action: makeAction,
};

// `set` takes values by control name.
function makeControl(spec, set) {
  const control = MAKERS[spec.kind](spec, (value) => set({ [spec.name]: value }), set);
  if (spec.heavy) control.focusable.dataset.heavy = "";
  if (spec.help) {
    const id = freshId("help");
    control.element.append(make("p", { id, class: "intuitive-help", text: spec.help }));
    control.focusable.setAttribute("aria-describedby", id);
  }
  return control;
}
