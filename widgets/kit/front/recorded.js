// Explorers on a page without Python: what stands in the place of the widget's model answers from
// recorded states (kit/recording.py). Every [data-recorded] of a page is loaded when it is seen.

import explorer from "./explorer.js";
import question from "./question.js";

// A server may have unpacked the file on its way, and then says nothing of it.
async function unpacked(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return new TextDecoder().decode(bytes);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

// The inverse of recording.py's _Table: parts that stand in several places are one object here.
function unfolding({ shared }) {
  const made = [];
  const unfold = (part) => {
    if (typeof part === "string") {
      if (part[0] !== "~") return part;
      if (part[1] === "~") return part.slice(1);
      const number = Number(part.slice(1));
      return (made[number] ??= unfoldText(shared[number]));
    }
    if (Array.isArray(part)) return part.map(unfold);
    if (part === null || typeof part !== "object") return part;
    return Object.fromEntries(Object.entries(part).map(([name, value]) => [name, unfold(value)]));
  };
  const unfoldText = (part) => (typeof part === "string" && part[0] === "~" ? part.slice(1) : unfold(part));
  return unfold;
}

const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const view = (bytes) => new DataView(bytes.buffer);
const same = (one, other) =>
  one === other || (one?.byteLength === undefined && JSON.stringify(one) === JSON.stringify(other));
const plain = (value) => (typeof value === "number" ? Number(value.toPrecision(9)) : value);
const equal = (one, other) => plain(one) === plain(other);

// What anywidget's modules ask of a model, and nothing else.
function makeModel(traits, answer) {
  const values = { asked: 0, heard: 0, verdict: {}, bounds: {}, info: {}, status: {}, ...traits };
  const listeners = {};
  const emit = (event, ...rest) => [...(listeners[event] ?? [])].forEach((listener) => listener(...rest));
  const model = {
    get: (name) => values[name],
    set: (name, value) => model.take({ [name]: value }),
    // Several at once, as one message of Python's brings them.
    take(news) {
      const changed = Object.keys(news).filter((name) => !same(values[name], news[name]));
      Object.assign(values, news);
      for (const name of changed) emit(`change:${name}`, model, values[name]);
    },
    on: (event, listener) => (listeners[event] ??= new Set()).add(listener),
    off: (event, listener) => listeners[event]?.delete(listener),
    send: (content) => answer.message?.(content),
    save_changes() {
      model.take({ heard: values.asked });
      answer.change?.();
    },
    widget_manager: { get_model: async () => ({ get: library }) },
  };
  return model;
}

// plotly.js and d3 of this site, still compressed, as the kernel's runtime widget carries them.
const LIBRARIES = { library: "plotly.js.gz", motion: "motion.js.gz" };
export async function library(name) {
  const answer = await fetch(new URL(LIBRARIES[name], import.meta.url));
  if (!answer.ok) throw new Error(`${LIBRARIES[name]}: ${answer.status}`);
  return new Uint8Array(await answer.arrayBuffer());
}

// ------------------------------------------------------------------------------------ states

const python = (value) => {
  if (typeof value === "boolean") return value ? "True" : "False";
  return typeof value === "string" ? JSON.stringify(value.length > 60 ? "your text" : value) : String(value);
};

// The call that shows these values in JupyterLab.
function callFor(call, spec, values) {
  const moved = Object.entries(values).filter(([name, value]) => !equal(value, spec.defaults[name]));
  const given = moved.map(([name, value]) => `${name}=${python(value)}`).join(", ");
  return given ? `${call}.set(${given})` : call;
}

// A slider's value as it is read beside it.
function inWords(control, value) {
  const decimals = (String(control.step).split(".")[1] || "").length;
  const number = control.values.length ? String(value) : value.toFixed(decimals).replace("-", "−");
  const text = control.texts[control.values.indexOf(value)] ?? number;
  return `${text}${control.unit ? ` ${control.unit}` : ""}`;
}

const positionOf = (control, value) => (control.values.length ? control.values.indexOf(value) : value);

// How far two values of a control are apart, with 1 from end to end; Infinity where no number
// says so: another option is another picture.
function apart(control, bounds, one, other) {
  if (equal(one, other)) return 0;
  if (control.kind !== "range") return Infinity;
  const [from, to] = [one, other].map((value) => positionOf(control, value));
  if (control.values.length) return Math.abs(from - to) / (control.values.length - 1);
  const [low, high] = bounds?.[control.name] ?? [control.min, control.max];
  return Math.abs(from - to) / (high - low || 1);
}

const JUST_MOVED = 8; // what the reader moves now counts for more than what was moved before

function nearest(states, spec, bounds, values, moved) {
  let [best, least] = [null, Infinity];
  for (const state of states) {
    let far = 0;
    for (const control of spec.controls) {
      const own = apart(control, bounds, values[control.name], state.asked[control.name]);
      far += own * (moved.includes(control.name) ? JUST_MOVED : 1);
    }
    if (far < least) [best, least] = [state, far];
  }
  return best;
}

// Those on the side to which one slider was just moved: a key leads from place to place.
function ahead(states, spec, before, values, moved) {
  const control = moved.length === 1 && spec.controls.find(({ name, kind }) => name === moved[0] && kind === "range");
  if (!control) return [];
  const far = (value) => Math.sign(positionOf(control, value) - positionOf(control, before[control.name]));
  return states.filter(({ asked }) => far(asked[control.name]) === far(values[control.name]));
}

const madeOn = document.body.dataset.madeOn;
const MADE = `when this book was built${madeOn ? `, ${madeOn}` : ""}`;

function makeStates(recording, unfold, told) {
  const { spec } = recording.traits;
  const states = recording.states.map((state) => ({ ...state, asked: unfold(state.asked) }));
  const byText = new Map();
  const text = (values) => JSON.stringify(spec.controls.map(({ name }) => plain(values[name])));
  for (const state of states) {
    if (state.values) byText.set(text(unfold(state.values)), state);
  }
  for (const state of states) byText.set(text(state.asked), state);

  let count = 0;
  let model = null;
  let before = spec.defaults;
  let drawn = {};
  const say = (state, sentence, values) =>
    ({ status: { state, text: sentence, values, fraction: null, count: ++count } });
  const opened = (state) => {
    const news = { bounds: unfold(state.bounds), info: unfold(state.info) };
    for (const [name, figure] of Object.entries(unfold(state.figures))) news[`figure_${name}`] = figure;
    if (state.picture) {
      news.swarm = view(swarmBytes(unfold(state.swarm)));
      news.picture = view(new TextEncoder().encode(JSON.stringify(unfold(state.picture))));
    }
    if (state.tokens) {
      const [texts, marks, focus] = unfold(state.tokens);
      Object.assign(news, { token_texts: texts, token_marks: view(bytesOf(marks)), token_focus: focus });
    }
    return news;
  };
  const show = (state, values, sentence) =>
    model.take({ ...(state.opened ??= opened(state)), values, ...say("done", sentence, values) });
  const actions = spec.controls.filter(({ kind }) => kind === "action").map(({ name }) => name);
  const recorded = (values) => (actions.some((name) => values[name]) ? `Recorded ${MADE}.` : "Recorded.");
  // To the nearest state; `byKey`: a key moved the control, not a pointer. Says what snapped.
  const asked = (byKey) => {
    const values = { ...model.get("values") };
    for (const name of actions) values[name] = Math.min(values[name], 1); // once is all there is
    const moved = spec.controls.map(({ name }) => name).filter((name) => !equal(values[name], before[name]));
    const exact = byText.get(text(values));
    const near = (some) => nearest(some, spec, model.get("bounds"), values, moved);
    const fine = exact ? [] : states.filter((state) => !state.error);
    const found = exact ?? ((byKey && near(ahead(fine, spec, before, values, moved))) || near(fine));
    const other = exact || !found ? [] : spec.controls.filter(({ name }) => !equal(values[name], found.asked[name]));
    if (exact?.error) model.take({ values, ...say("error", unfold(exact.error), values) });
    else if (exact) show(exact, unfold(exact.values), recorded(values));
    else if (found) {
      const named = other.map((control) => `${control.label} ${inWords(control, found.asked[control.name])}`);
      show(found, unfold(found.values), `Nearest recorded: ${named.join(", ")}.`);
    } else {
      const sentence = "This setting is not recorded: run it in JupyterLab, with the line below.";
      model.take({ values, ...say("error", sentence, values) });
    }
    before = model.get("values");
    told(exact ? "exact" : found ? "nearest" : "missing", callFor(recording.call, spec, values));
    // What was moved along stays said while the same slider moves on.
    const goesOn = String(moved) === String(drawn.moved) && !same(before, spec.defaults);
    const said = goesOn ? { ...drawn.said } : {};
    for (const name of moved) said[name] = "";
    for (const control of other) {
      const [wanted, got] = [values, found.asked].map((one) => inWords(control, one[control.name]));
      const own = `Recorded at ${got}; ${wanted} runs in JupyterLab.`;
      const along = `Moved to ${got}: together with ${wanted} it runs in JupyterLab.`;
      said[control.name] = moved.includes(control.name) ? own : along;
    }
    drawn = { moved, said };
    return said;
  };
  // Values of a slider that are recorded while all else stays as it is.
  const places = (name) => {
    const now = model.get("values");
    const alike = ({ asked }) => spec.controls.every((one) => one.name === name || equal(now[one.name], asked[one.name]));
    return [...new Set(states.filter(alike).map(({ asked }) => asked[name]))];
  };
  return {
    use: (given) => (model = given),
    first: () => show(byText.get(text(spec.defaults)) ?? states[0], spec.defaults, "Recorded."),
    asked,
    places,
  };
}

const UNIT = 16; // as recording.py counts positions

// The bytes of scene.wire from how far each member of a swarm went since the frame before.
export function swarmBytes(steps) {
  const parts = [];
  const before = new Map();
  for (const [key, text] of steps) {
    const bytes = bytesOf(text);
    const n = bytes.length / 5;
    const past = before.get(key)?.length === 2 * n ? before.get(key) : new Uint16Array(2 * n);
    const places = past.map((place, index) => place + bytes[index] + 256 * bytes[2 * n + index]);
    before.set(key, places);
    const whole = new Uint8Array(5 * n + (n % 2));
    new Uint16Array(whole.buffer, 0, 2 * n).set(places.map((place) => Math.min(place * UNIT, 65535)));
    whole.set(bytes.subarray(4 * n), 4 * n);
    parts.push(whole);
  }
  return joined(parts);
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

// ------------------------------------------------------------------------------ on the page

const KEPT = "intuitive/";
function recall(name) {
  try {
    return localStorage.getItem(KEPT + name);
  } catch {
    return null;
  }
}
function remember(name, choice) {
  try {
    localStorage[choice === null ? "removeItem" : "setItem"](KEPT + name, choice);
  } catch {
    // a page that may keep nothing still answers
  }
}

function element(tag, attributes, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

function makeRunThis(recording) {
  const code = element("code", { textContent: recording.call });
  const fold = element("details", { className: "intuitive-run-here" },
    element("summary", { textContent: "Run this setting in JupyterLab" }), element("pre", { tabIndex: 0 }, code));
  return {
    element: fold,
    tell(how, call) {
      code.textContent = call;
      if (how !== "exact") fold.open = true;
      fold.closest("[data-explorer]").dataset.recorded = how;
    },
  };
}

// Under each slider: dots where it is recorded, and what became of a value that is not. The slider
// itself then stands at the value that is shown.
function makePlaces(spec, root, states) {
  const rows = spec.controls.filter(({ kind }) => kind === "range").map((control) => {
    const input = root.querySelector(`input[data-control="${control.name}"]`);
    const dots = element("div", { className: "intuitive-places", ariaHidden: "true" });
    const note = element("p", { className: "intuitive-snapped", role: "status", hidden: true });
    input.after(dots, note);
    return { control, input, dots, note };
  });
  return function draw(said) {
    for (const { control, input, dots, note } of rows) {
      note.textContent = said[control.name] ?? "";
      if (note.textContent) note.hidden = false; // its room stays: a drag moves nothing below
      const [low, high] = [Number(input.min), Number(input.max)];
      const at = states.places(control.name).map((value) => positionOf(control, value));
      const shares = at.length > (high - low) / Number(input.step) ? [] : at.map((one) => (one - low) / (high - low || 1));
      dots.innerHTML = shares.map((share) => `<span style="--at: ${share}"></span>`).join("");
    }
  };
}

// A button that computes in JupyterLab says what it does here.
function nameButtons(spec, root) {
  for (const { name, kind, disabled } of spec.controls) {
    if (kind !== "action") continue;
    const button = root.querySelector(`button[data-control="${name}"]`);
    const text = disabled ? `Not recorded ${MADE}: it runs in JupyterLab.` : `Recorded ${MADE}.`;
    if (disabled) button.nextElementSibling.remove(); // of the machine that built the book
    button.after(element("p", { className: "intuitive-help", textContent: text }));
  }
}

function showExplorer(recording, unfold, el) {
  const { name } = recording;
  const run = makeRunThis(recording);
  const states = makeStates(recording, unfold, run.tell);
  const answer = { change() {}, message() {} };
  const { predict } = recording.traits.spec;
  const prediction = predict ? recall(name) : "";
  const model = makeModel({ ...recording.traits, prediction, runtime: "recorded", token_texts: [] }, answer);
  states.use(model);
  states.first();
  let shown = model.get("values");
  let byKey = false;
  let draw = () => {};
  answer.change = () => {
    if (same(shown, model.get("values"))) return;
    const said = states.asked(byKey);
    shown = model.get("values");
    draw(said);
  };
  const judge = () => model.take({ verdict: recording.verdicts[model.get("prediction")] ?? {} });
  answer.message = ({ type, choice }) => {
    if (type === "predict") {
      remember(name, choice ?? "");
      judge();
    } else if (type === "forget") {
      remember(name, null);
      model.take({ verdict: {} });
    } else if (type === "verdict") judge();
  };
  explorer.render({ model, el });
  const root = el.querySelector("[data-explorer]");
  root.dataset.recorded = "exact";
  root.addEventListener("keydown", () => (byKey = true), true);
  root.addEventListener("pointerdown", () => (byKey = false), true);
  draw = makePlaces(recording.traits.spec, root, states);
  draw({});
  nameButtons(recording.traits.spec, root);
  root.querySelector(".intuitive-body").append(run.element);
}

function showQuestion(recording, el) {
  const answer = {};
  const model = makeModel({ ...recording.traits, chosen: -1, feedback: {} }, answer);
  answer.message = ({ type, index }) => {
    if (type === "choose") model.take({ chosen: index, feedback: recording.verdicts[index] });
  };
  question.render({ model, el });
}

async function wake(place) {
  try {
    const file = JSON.parse(await unpacked(place.dataset.recorded));
    const unfold = unfolding(file);
    // States stay folded until they are shown.
    const { states, ...rest } = typeof file.whole === "string" ? unfold(file.whole) : file.whole;
    const recording = { ...unfold(rest), states: listed(file, states) };
    const el = element("div", {});
    if (recording.kind === "question") showQuestion(recording, el);
    else showExplorer(recording, unfold, el);
    place.replaceChildren(el);
  } catch (error) {
    place.append(element("p", { className: "intuitive-error", textContent: `This could not be loaded: ${error.message}` }));
  }
}

// The states themselves, each with its parts still folded.
function listed({ shared }, states) {
  const open = (part) => (typeof part === "string" && /^~\d/.test(part) ? shared[Number(part.slice(1))] : part);
  return open(states).map(open);
}

function start() {
  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      wake(target);
    }
  }, { rootMargin: "400px" });
  for (const place of document.querySelectorAll("[data-recorded]")) watcher.observe(place);
}

start();
