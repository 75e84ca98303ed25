// The hero: marks drawn as SVG over a canvas of swarms, moved by d3, and a player for its frames.
// What a mark, a swarm and a frame hold: kit/scene.py. All motion happens here, without Python.

const MOTION = Symbol.for("intuitive.motion");
const MOTION_MS = 260;
const PATIENT_MS = 1500; // a page in the background draws nothing: nobody waits for it longer
const CLICK_REACH = 4; // pixels within which a press is a click and no drag

// {d3, temml}, once per page. A page without a kernel gives an object with `get` as the model.
function loadMotion(model) {
  window[MOTION] ??= (async () => {
    const live = model.widget_manager && model.get("runtime");
    const carrier = live ? await model.widget_manager.get_model(model.get("runtime")) : model;
    const packed = new Blob([await carrier.get("motion")]).stream();
    const source = await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).text();
    const holder = { exports: {} };
    new Function("module", "exports", source)(holder, holder.exports);
    return holder.exports;
  })();
  window[MOTION].catch(() => (window[MOTION] = undefined));
  return window[MOTION];
}

// ---------------------------------------------------------------------------------- the wire

// What scene.py leaves out where it stands at its default.
const ANY_MARK = {
  ...{ x: 0, y: 0, fill: "", stroke: "", width: 1.5, dash: "", opacity: 1, label: "" },
  ...{ place: "center", size: 13, link: "", words: "", click: null, drag: null, layer: 0 },
};
const LINE = { ...ANY_MARK, x2: 0, y2: 0 };
const MARK_DEFAULTS = {
  circle: { ...ANY_MARK, r: 5 },
  rectangle: { ...ANY_MARK, w: 10, h: 10, corner: 0 },
  line: LINE,
  arrow: { ...LINE, head: 8 },
  path: { ...ANY_MARK, d: "" },
  words: { ...ANY_MARK, text: "", anchor: "start", fill: "ink", bold: false, mono: false },
  swarm: { opacity: 1 },
};

// The frames whole, from what each changes. What two frames share is one object.
function wholeFrames(header) {
  const marks = new Map();
  const places = new Map(); // by swarm, where in the bytes its positions begin
  return header.frames.map((frame, index) => {
    for (const key of frame.gone) marks.delete(key);
    for (const mark of frame.marks) marks.set(mark.key, { ...MARK_DEFAULTS[mark.kind], ...mark });
    for (const { key, at } of frame.swarms) places.set(key, at);
    const all = [...marks.values()];
    return {
      ...frame,
      index,
      marks: all.filter((mark) => mark.kind !== "swarm"),
      swarms: all
        .filter((mark) => mark.kind === "swarm")
        .map((mark) => ({ ...mark, at: places.get(mark.key) })),
    };
  });
}

const SWARM_REACH = 0.5;

// x of all members, then y, in the scene's units, and the shades.
function swarmPlaces(buffer, { at, n }, { width, height }) {
  const shares = new Uint16Array(buffer, at, 2 * n);
  const places = Float32Array.from(
    shares,
    (share, index) =>
      ((share / 65535) * (1 + 2 * SWARM_REACH) - SWARM_REACH) * (index < n ? width : height)
  );
  return { places, shades: new Uint8Array(buffer, at + 4 * n, n) };
}

// ---------------------------------------------------------------------------------- marks

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = { circle: "circle", rectangle: "rect", line: "line", words: "text" };
const GAP = 5; // between a shape and the label beside it

function makeSvg(tag, className) {
  const element = document.createElementNS(SVG, tag);
  if (className) element.setAttribute("class", className);
  return element;
}

// A colour of the theme by what it paints: text and pale areas have tints of their own.
function colourOf(name, use = "") {
  if (!name) return "none";
  return name.startsWith("#") ? name : `var(--intuitive-${name}${use})`;
}

// Black or white, whichever reads better on a data colour; colours of the theme name their own.
function inkOn(mark) {
  if (!mark.fill || mark.opacity < 0.5) return "var(--intuitive-ink)";
  if (!mark.fill.startsWith("#")) return `var(--intuitive-on-${mark.fill}, var(--intuitive-ink))`;
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(mark.fill.slice(at, at + 2), 16) / 255);
  return 0.2126 * red ** 2.2 + 0.7152 * green ** 2.2 + 0.0722 * blue ** 2.2 > 0.18 ? "#000" : "#fff";
}

// The moment before the browser paints; a page in the background never does.
const painting = () =>
  new Promise((resolve) => {
    requestAnimationFrame(resolve);
    setTimeout(resolve, 50);
  });

// What of a mark moves, as numbers; a line's end is kept relative to its start.
function numbersOf(mark) {
  const { x, y, opacity, width } = mark;
  const all = { x, y, opacity, width };
  if (mark.kind === "circle") all.r = mark.r;
  if (mark.kind === "rectangle") Object.assign(all, { w: mark.w, h: mark.h, corner: mark.corner });
  if ("x2" in mark) Object.assign(all, { dx: mark.x2 - x, dy: mark.y2 - y });
  if (mark.kind === "arrow") all.head = mark.head;
  return all;
}

const short = (number) => Math.round(number * 100) / 100;

function arrowPath({ dx, dy, head, width }) {
  const length = Math.hypot(dx, dy);
  if (length < head) {
    const r = Math.max(width, 2);
    return `M${-r},0a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0Z`;
  }
  const [ux, uy] = [dx / length, dy / length];
  const [bx, by] = [dx - head * ux, dy - head * uy]; // where the head begins
  const [sx, sy] = [-0.4 * head * uy, 0.4 * head * ux]; // half its width
  const points = [[dx, dy], [bx + sx, by + sy], [bx - sx, by - sy]].map((point) => point.map(short));
  return `M0,0L${short(bx)},${short(by)}M${points.join("L")}Z`;
}

const bare = (d) => d.replace(/[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?/gi, "").replace(/[\s,]/g, "");

function write(element, values) {
  for (const name in values) element.setAttribute(name, values[name]);
}

// The shape from its numbers, and from `d` for a path.
function shapeUp(element, kind, now) {
  if (kind === "circle") element.setAttribute("r", short(Math.max(0, now.r)));
  else if (kind === "rectangle") {
    const [w, h] = [short(Math.max(0, now.w)), short(Math.max(0, now.h))];
    write(element, { width: w, height: h, rx: Math.min(now.corner, w / 2, h / 2) });
  } else if (kind === "line") write(element, { x2: short(now.dx), y2: short(now.dy) });
  else if (kind === "arrow") element.setAttribute("d", arrowPath(now));
  else if (kind === "path") element.setAttribute("d", now.d);
}

// Where a label stands: [x, y, anchor, shift of the base line].
function labelPlace({ kind, place }, now) {
  let [left, right, top, bottom] = [0, 0, 0, 0];
  if (kind === "circle") [left, right, top, bottom] = [-now.r, now.r, -now.r, now.r];
  else if (kind === "rectangle") [right, bottom] = [now.w, now.h];
  else if (kind === "line" || kind === "arrow") {
    [left, right] = [Math.min(0, now.dx), Math.max(0, now.dx)];
    const [atLeft, atRight] = now.dx < 0 ? [now.dy, 0] : [0, now.dy];
    if (place === "left") return [left - GAP, atLeft, "end", "0.35em"];
    if (place === "right") return [right + GAP, atRight, "start", "0.35em"];
    [top, bottom] = [Math.min(0, now.dy), Math.max(0, now.dy)];
    if (place === "center") return [now.dx / 2, now.dy / 2, "middle", "0.35em"];
  }
  const [x, y] = [(left + right) / 2, (top + bottom) / 2];
  if (place === "left") return [left - GAP, y, "end", "0.35em"];
  if (place === "right") return [right + GAP, y, "start", "0.35em"];
  if (place === "above") return [x, top - GAP, "middle", "0"];
  if (place === "below") return [x, bottom + GAP, "middle", "0.8em"];
  return [x, y, "middle", "0.35em"];
}

// Which attributes hang on numbers of a mark: its place, its opacity, its stroke, its form.
const ALL_PARTS = { moved: true, faded: true, thick: true, formed: true };
const PART_OF = { x: "moved", y: "moved", opacity: "faded", width: "thick" };
const partsOf = (names) =>
  Object.fromEntries(names.map((name) => [PART_OF[name] ?? "formed", true]));

// Write into a mark's group the parts whose numbers have changed.
function drawMark(node, { moved, faded, thick, formed }) {
  const { mark, now, shape, label, hit } = node;
  if (moved) node.setAttribute("transform", `translate(${short(now.x)},${short(now.y)})`);
  if (faded) node.setAttribute("opacity", short(now.opacity));
  if (thick) shape.setAttribute("stroke-width", short(now.width));
  if (!formed && !(thick && mark.kind === "arrow")) return; // a short arrow is a dot of its width
  shapeUp(shape, mark.kind, now);
  if (hit && mark.kind === "circle") hit.setAttribute("r", Math.max(now.r, mark.drag ? 14 : 8));
  else if (hit) shapeUp(hit, mark.kind, now);
  if (!label) return;
  const [x, y, anchor, dy] = labelPlace(mark, now);
  write(label, { x: short(x), y: short(y), dy, "text-anchor": anchor });
}

const isLive = (mark) => Boolean(mark.link || mark.words || mark.click || mark.drag);
const isLine = (mark) => mark.kind === "line" || mark.kind === "arrow";
const isOpen = (mark) => isLine(mark) || (mark.kind === "path" && !mark.fill);

// A picture made smaller keeps its texts legible, and those of one letter's width in their places.
const LEAST_TEXT = 10; // pixels of the screen
const fontSize = (size) => `max(${size}px, calc(${LEAST_TEXT}px / var(--scale, 1)))`;

function newMark(mark) {
  const node = makeSvg("g");
  node.shape = node.appendChild(makeSvg(SHAPES[mark.kind] ?? "path", "shape"));
  node.now = numbersOf(mark);
  node.now.d = mark.d;
  return node;
}

// What dressMark goes by, as one text.
function lookOf(mark) {
  const { fill, stroke, dash, label, place, size, link, text, anchor, bold, mono } = mark;
  const open = isOpen(mark) ? mark.width : null;
  const told = [isLive(mark), Boolean(mark.click), Boolean(mark.drag), open, mark.opacity < 0.5];
  return [fill, stroke, dash, label, place, size, link, text, anchor, bold, mono, told].join("\t");
}

// Colours, texts and names of a mark: at once, or as the style sheet blends colours.
function dressMark(node, mark) {
  const look = lookOf(mark);
  if (node.look === look) return;
  node.look = look;
  const { shape } = node;
  const { kind, fill, stroke, dash, link } = mark;
  const open = isOpen(mark);
  const ink = isLine(mark) ? stroke || fill || "ink" : stroke;
  const names = ["mark", open && "open", isLive(mark) && "live", mark.click && "click"];
  names.push(mark.drag && "drag", node.light);
  write(node, { class: names.filter(Boolean).join(" "), "data-key": mark.key, "data-kind": kind });
  if (link) node.setAttribute("data-link", link);
  else node.removeAttribute("data-link");
  const areas = kind === "words" ? "-text" : "-area";
  shape.style.fill = isLine(mark) ? colourOf(ink) : colourOf(fill, areas);
  shape.style.stroke = colourOf(ink);
  if (open) node.style.setProperty("--width", mark.width);
  if (dash) shape.setAttribute("stroke-dasharray", dash);
  else shape.removeAttribute("stroke-dasharray");
  if (kind === "words") {
    shape.textContent = mark.text;
    shape.setAttribute("text-anchor", mark.anchor);
    shape.style.fontSize = fontSize(mark.size);
    shape.style.fontWeight = mark.bold ? 600 : "";
    shape.classList.toggle("mono", mark.mono);
    if (mark.mono) shape.style.setProperty("--own", mark.size / LEAST_TEXT);
  }
  const wantsHit = mark.drag || (isLive(mark) && (open || kind === "circle"));
  if (wantsHit && !node.hit && kind !== "words") {
    node.hit = makeSvg(SHAPES[kind] ?? "path", "hit");
    shape.before(node.hit);
  } else if (!wantsHit && node.hit) {
    node.hit.remove();
    node.hit = null;
  }
  if (mark.label) {
    node.label ??= node.appendChild(makeSvg("text"));
    const inside = mark.place === "center" && !isOpen(mark);
    node.label.setAttribute("class", inside ? "label" : "label beside");
    node.label.textContent = mark.label;
    node.label.style.fontSize = fontSize(mark.size);
    node.label.style.fill = inside ? inkOn(mark) : "";
  } else if (node.label) {
    node.label.remove();
    node.label = null;
  }
}

// ---------------------------------------------------------------------------------- the swarms

// Discs on the canvas: one picture per colour, stamped at every member's place.
function makeSwarms(canvas) {
  const swarms = new Map(); // by key: {mark, now, from, to, shades, stamps, alpha, …}
  const pen = canvas.getContext("2d");
  let size = { width: 1, height: 1 };
  let scale = 1;

  const stampsOf = ({ colours, r }) => {
    const style = getComputedStyle(canvas);
    const radius = Math.max(r * scale, 0.6);
    return colours.map((name) => {
      const stamp = document.createElement("canvas");
      stamp.width = stamp.height = Math.ceil(2 * radius + 2);
      const ink = stamp.getContext("2d");
      const named = !name.startsWith("#");
      ink.fillStyle = named ? style.getPropertyValue(`--intuitive-${name}`).trim() || "#7f7f7f" : name;
      ink.arc(stamp.width / 2, stamp.width / 2, radius, 0, 2 * Math.PI);
      ink.fill();
      return stamp;
    });
  };

  const draw = () => {
    pen.clearRect(0, 0, canvas.width, canvas.height);
    for (const swarm of swarms.values()) {
      swarm.stamps ??= stampsOf(swarm.mark);
      const { now, shades, stamps } = swarm;
      const n = now.length / 2;
      const middle = stamps[0].width / 2;
      pen.globalAlpha = swarm.alpha;
      for (let member = 0; member < n; member++) {
        const stamp = stamps[shades[member]] ?? stamps[0];
        pen.drawImage(stamp, now[member] * scale - middle, now[n + member] * scale - middle);
      }
    }
    pen.globalAlpha = 1;
  };

  const blend = (share) => {
    for (const swarm of swarms.values()) {
      const { from, to, now } = swarm;
      if (from !== to) {
        for (let index = 0; index < now.length; index++) {
          now[index] = from[index] + (to[index] - from[index]) * share;
        }
      }
      swarm.alpha = swarm.fromAlpha + (swarm.toAlpha - swarm.fromAlpha) * share;
    }
  };

  return {
    // New goals; says whether anything has to move. `buffer` holds all positions.
    aim(marks, buffer, scene) {
      let moves = false;
      const wanted = new Set();
      for (const mark of marks) {
        wanted.add(mark.key);
        const { places, shades } = swarmPlaces(buffer, mark, scene);
        const swarm = swarms.get(mark.key) ?? { now: new Float32Array(0), alpha: 0 };
        const before = swarm.now;
        const now = Float32Array.from(places);
        const [had, has] = [before.length / 2, mark.n];
        for (let member = 0; member < Math.min(had, has); member++) {
          now[member] = before[member]; // a new member appears at its place
          now[has + member] = before[had + member];
        }
        const look = JSON.stringify([mark.colours, mark.r]);
        if (swarm.look !== look) swarm.stamps = null;
        Object.assign(swarm, { mark, look, shades, now, from: now.slice(), to: places });
        Object.assign(swarm, { fromAlpha: swarm.alpha, toAlpha: mark.opacity });
        moves ||= swarm.alpha !== mark.opacity || now.some((at, index) => at !== places[index]);
        swarms.set(mark.key, swarm);
      }
      for (const [key, swarm] of swarms) {
        if (wanted.has(key)) continue;
        Object.assign(swarm, { from: swarm.now, to: swarm.now, fromAlpha: swarm.alpha, toAlpha: 0 });
        moves = true;
      }
      return moves;
    },
    move(share) {
      blend(share);
      if (share === 1) for (const [key, { toAlpha }] of swarms) if (!toAlpha) swarms.delete(key);
      draw();
    },
    fit(scene) {
      size = scene;
      const width = Math.round(canvas.clientWidth * (window.devicePixelRatio || 1));
      if (!width) return;
      const height = Math.round((width * size.height) / size.width);
      if (canvas.width === width && canvas.height === height) return;
      Object.assign(canvas, { width, height });
      scale = width / size.width;
      this.renew();
    },
    // Colours or size have changed.
    renew() {
      for (const swarm of swarms.values()) swarm.stamps = null;
      draw();
    },
  };
}

// ---------------------------------------------------------------------------------- the player

// Play, step, scrub, stages. `go(index, still)` shows a frame, at once where `still`.
function makePlayer(go) {
  let frames = [];
  let index = 0;
  let timer = 0;
  let pace = 700;
  const button = (label, text, onclick) =>
    make("button", { type: "button", class: "intuitive-button", "aria-label": label, title: label, text, ...KEEP_KEYS, onclick });
  const toggle = button("Play", "▶", () => (timer ? pause() : play()));
  const back = button("Picture before", "‹", () => step(index - 1));
  const on = button("Next picture", "›", () => step(index + 1));
  const scrubber = make("input", { type: "range", min: 0, step: 1, ...KEEP_KEYS });
  const where = make("output", {});
  const stages = make("div", { class: "intuitive-stages", role: "group", "aria-label": "Stages" });
  const element = make(
    "div",
    { class: "intuitive-player", role: "group" },
    ...[toggle, back, scrubber, on, where, stages]
  );
  element.hidden = true;

  const show = () => {
    const { label, stage } = frames[index];
    scrubber.value = index;
    const said = [label || `${index + 1} of ${frames.length}`, stage].filter(Boolean).join(", ");
    scrubber.setAttribute("aria-valuetext", said);
    where.textContent = label;
    const name = timer ? "Pause" : "Play";
    toggle.textContent = timer ? "❚❚" : "▶";
    write(toggle, { "aria-label": name, title: name });
    back.setAttribute("aria-disabled", index === 0);
    on.setAttribute("aria-disabled", index === frames.length - 1);
    // The chips are kept, so that a focused one is never taken away by a step in time.
    const group = frames.filter((frame) => frame.label === label && frame.stage);
    while (stages.children.length < group.length) {
      stages.append(make("button", { type: "button", class: "intuitive-chip", ...KEEP_KEYS }));
    }
    [...stages.children].forEach((chip, place) => {
      const frame = group[place];
      chip.hidden = !frame;
      if (!frame) return;
      if (chip.textContent !== frame.stage) chip.textContent = frame.stage;
      chip.dataset.frame = frame.index;
      chip.setAttribute("aria-pressed", frame.index === index);
    });
    stages.hidden = !frames.some((frame) => frame.stage);
    if (document.activeElement?.hidden && stages.contains(document.activeElement)) scrubber.focus();
  };
  const place = (to, still) => {
    index = Math.min(Math.max(to, 0), frames.length - 1);
    show();
    go(index, still);
  };
  const pause = () => {
    clearTimeout(timer);
    timer = 0;
    if (frames.length) show();
  };
  const beat = () => {
    timer = setTimeout(() => {
      if (index < frames.length - 1) place(index + 1);
      if (index < frames.length - 1) beat();
      else pause();
    }, pace);
  };
  const play = () => {
    const again = index >= frames.length - 1;
    beat();
    if (again) place(0);
    else show();
  };
  const step = (to) => {
    pause();
    place(to);
  };

  stages.addEventListener("click", (event) => {
    const chip = event.target.closest("[data-frame]");
    if (chip) step(Number(chip.dataset.frame));
  });
  // A drag may say more than the page can draw: the last place of each picture counts.
  let wanted = null;
  scrubber.addEventListener("input", () => {
    const to = Number(scrubber.value);
    pause(); // puts the scrubber back
    scrubber.value = to;
    if (wanted === null) {
      requestAnimationFrame(() => {
        place(wanted, true);
        wanted = null;
      });
    }
    wanted = to;
  });
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const to = {
      ...{ ArrowLeft: index - 1, ArrowDown: index - 1, ArrowRight: index + 1, ArrowUp: index + 1 },
      ...{ Home: 0, End: frames.length - 1 },
    }[event.key];
    if (to !== undefined) step(to);
    else if (event.key === " " && event.target === scrubber) toggle.click();
    else return;
    event.preventDefault();
  });

  return {
    element,
    playing: () => timer !== 0,
    play,
    pause,
    step,
    // A new timeline, standing at `at`; it goes on playing if it did.
    show(timeline, at, header) {
      frames = timeline;
      index = at;
      pace = header.pace;
      scrubber.max = frames.length - 1;
      scrubber.setAttribute("aria-label", header.axis);
      element.setAttribute("aria-label", `Play and scrub: ${header.axis}`);
      element.hidden = frames.length < 2;
      if (element.hidden) pause();
      show();
    },
  };
}

// ---------------------------------------------------------------------------------- the hero

const sizeOf = ({ width, height }) => `${width} ${height}`;
const WALK = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// `spec` is {label, caption}; `set` takes control values; `controls` are those of controls.js by
// name; `bus` is a makeBus() that all views of the explorer share.
function makeHero(spec, { model, bus, set, controls }) {
  const source = freshId("hero");
  const [hoverSource, focusSource] = [`${source}-hover`, `${source}-focus`];
  const canvas = make("canvas", { "aria-hidden": "true" });
  const svg = makeSvg("svg");
  write(svg, { role: "application", "aria-label": spec.label, tabindex: 0, ...KEEP_KEYS });
  write(svg, { "aria-roledescription": "picture; arrow keys walk its objects" });
  const surface = svg.appendChild(makeSvg("g"));
  surface.setAttribute("aria-hidden", "true"); // the status area says their words
  const ring = svg.appendChild(makeSvg("rect", "ring"));
  ring.setAttribute("rx", 5);
  const stage = make("div", { class: "intuitive-surface" }, canvas, svg);
  const player = makePlayer((to, still) => goTo(to, still));
  const caption = spec.caption ? make("p", { class: "intuitive-help", text: spec.caption }) : null;
  const scroller = make("div", { class: "intuitive-scroller" }, stage); // in a narrow window
  const element = make("div", { class: "intuitive-hero" }, scroller, player.element, caption);
  const swarms = makeSwarms(canvas);
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  let d3 = null;
  let header = null;
  let buffer = new ArrayBuffer(0);
  let frames = [];
  let index = 0;
  let drawn = false;
  let motion = Promise.resolve();
  let showing = Promise.resolve();
  let busyUntil = 0;
  const layers = new Set();
  const heard = new Set();
  let hover = null; // the mark under the pointer, and the one the arrow keys are at: as nodes
  let current = null;
  let held = null; // the drag

  // -------------------------------------------------------------- drawing

  // Give a mark its new goal; true where something has to move there.
  const aim = (node, mark) => {
    const back = node.leaving; // it was fading out, and is wanted again
    if (node.mark === mark && !back) return node.moving;
    node.leaving = false;
    node.mark = mark;
    const { look } = node;
    dressMark(node, mark);
    node.goal = numbersOf(mark);
    node.goal.d = mark.d;
    if (held?.node === node) Object.assign(node.goal, pulled());
    if (!node.placed) drawMark(node, ALL_PARTS);
    else if (look !== node.look) drawMark(node, { formed: true }); // its label may stand elsewhere
    node.placed = true;
    node.moving = back || astray(node).length > 0;
    return node.moving;
  };
  const astray = ({ goal, now }) => Object.keys(goal).filter((name) => goal[name] !== now[name]);
  const place = (node) => {
    const parts = partsOf(astray(node));
    node.moving = false;
    Object.assign(node.now, node.goal);
    drawMark(node, parts);
  };
  // d3 asks for this when the motion begins, so it begins where the mark is then.
  const tween = (node) => {
    const { now, goal } = node;
    let path = null;
    if (goal.d !== now.d) {
      if (now.d && bare(now.d) === bare(goal.d)) path = d3.interpolateString(now.d, goal.d);
      else {
        now.d = goal.d; // other commands: nothing to blend
        drawMark(node, { formed: true });
      }
    }
    const all = astray(node);
    const parts = partsOf(all);
    const names = all.filter((name) => name !== "d");
    const from = names.map((name) => now[name]);
    const change = names.map((name) => goal[name] - now[name]);
    return (share) => {
      if (share === 1) return place(node);
      for (let each = 0; each < names.length; each++) now[names[each]] = from[each] + change[each] * share;
      if (path) now.d = path(share);
      drawMark(node, parts);
    };
  };

  const draw = (still) => {
    const frame = frames[index];
    for (const mark of frame.marks) layers.add(mark.layer);
    const byLayer = new Map([...layers].sort((one, other) => one - other).map((layer) => [layer, []]));
    for (const mark of frame.marks) byLayer.get(mark.layer).push(mark);
    const groups = d3
      .select(surface)
      .selectAll("g.layer")
      .data([...byLayer], ([layer]) => layer)
      .join((entering) => entering.append("g").attr("class", "layer"))
      .order();
    const marks = groups
      .selectAll("g.mark")
      .data(([, here]) => here, (mark) => `${mark.kind} ${mark.key}`);
    const entering = marks.enter().append(newMark);
    if (!still) entering.each((_, place, nodes) => (nodes[place].now.opacity = 0));
    const all = entering.merge(marks).order();
    // Aiming is done for every mark; only those that have to move stay in the selection.
    const moving = all.filter(function (mark) {
      const busy = this.moving && this.mark === mark && !this.leaving;
      return aim(this, mark) && (still || !busy);
    });
    const leaving = marks.exit().filter(function () {
      return still || !this.leaving;
    });
    const swarmsMove = swarms.aim(frame.swarms, buffer, header);

    svg.classList.toggle("still", still);
    if (still) {
      moving.interrupt().each(function () {
        place(this);
      });
      leaving.interrupt().remove();
      d3.select(canvas).interrupt();
      swarms.move(1);
      motion = Promise.resolve();
    } else {
      // A quick film runs evenly. While a slider is dragged, pictures come faster than motions end:
      // one that began slowly every time would never get anywhere.
      const brisk = player.playing() && header.pace < 1.5 * MOTION_MS;
      const overtaken = performance.now() < busyUntil;
      busyUntil = performance.now() + MOTION_MS;
      const ease = brisk ? d3.easeLinear : overtaken ? d3.easeCubicOut : d3.easeCubicInOut;
      const pass = (selection) =>
        selection
          .transition()
          .duration(brisk ? header.pace : MOTION_MS)
          .ease(ease);
      leaving.each(function () {
        this.leaving = true;
        this.goal = { ...this.goal, opacity: 0 };
      });
      const over = [pass(moving), pass(leaving)].map((transition) =>
        transition.tween("move", function () {
          return tween(this);
        })
      );
      over[1].remove();
      if (swarmsMove) {
        over.push(pass(d3.select(canvas)).tween("move", () => (share) => swarms.move(share)));
      } else swarms.move(1);
      motion = Promise.all(over.map((transition) => transition.end().catch(() => {})));
    }
    refresh();
  };

  const tell = () => {
    const now = { ...frames[index], playing: player.playing() };
    for (const listener of heard) listener(now);
  };
  const goTo = (to, still = false) => {
    index = to;
    if (!d3) return;
    draw(still || calm.matches || !drawn);
    drawn = true;
    tell();
  };

  // -------------------------------------------------------------- links

  const nodes = () => [...surface.querySelectorAll(".mark.live")].filter((node) => !node.leaving);
  let lit = new Set();
  let main = "";
  let anyLit = false; // on the page
  const light = () => {
    if (!lit.size && !anyLit) return;
    anyLit = lit.size > 0;
    for (const node of surface.querySelectorAll(".mark")) {
      const link = node.mark?.link;
      const wanted = link && lit.has(link) ? (link === main ? "lit" : "related") : "";
      if ((node.light ?? "") === wanted) continue;
      if (node.light) node.classList.remove(node.light);
      if (wanted) node.classList.add(wanted);
      node.light = wanted;
    }
  };
  const leave = bus.subscribe({
    lit(links, strong) {
      [lit, main] = [links, strong];
      light();
    },
  });
  const drawRing = () => {
    const shown = current && svg.classList.contains("walking");
    ring.style.display = shown ? "" : "none";
    if (!shown) return;
    const box = current.shape.getBBox();
    const { x, y } = current.goal;
    write(ring, { x: x + box.x - 5, y: y + box.y - 5, width: box.width + 10, height: box.height + 10 });
  };
  let spoke = ""; // of pointer and keyboard, who lit last
  const say = (node, by) => {
    spoke = by;
    bus.light(node.mark.link, by, node.mark.words);
  };
  const isGone = (node) => !node || node.leaving || !node.isConnected;
  const refreshHover = () => {
    if (hover && !isGone(hover)) return say(hover, hoverSource);
    if (hover) bus.dark(hoverSource);
    hover = null;
  };
  const refreshFocus = () => {
    if (current && !isGone(current)) {
      if (svg.classList.contains("walking")) say(current, focusSource);
      return;
    }
    if (current) bus.dark(focusSource);
    current = null;
  };
  // After every picture: what was lit goes on with its new words, what has gone lets go.
  const refresh = () => {
    const order = [refreshHover, refreshFocus];
    if (spoke === hoverSource) order.reverse(); // who lit last stays on top
    for (const again of order) again();
    bus.goOn(source, (link) => nodes().some((node) => node.mark.link === link));
    light();
    drawRing();
  };
  const walkTo = (node) => {
    if (!node) return;
    current = node;
    say(node, focusSource);
    drawRing();
    ring.scrollIntoView({ block: "nearest", inline: "nearest" }); // the window may be lower than the picture
  };
  const centre = (node) => {
    const box = node.shape.getBBox();
    return [node.goal.x + box.x + box.width / 2, node.goal.y + box.y + box.height / 2];
  };
  const neighbour = ([ux, uy]) => {
    const [x, y] = centre(current);
    let best = null;
    let least = Infinity;
    for (const node of nodes()) {
      const [dx, dy] = centre(node).map((at, axis) => at - [x, y][axis]);
      const along = dx * ux + dy * uy;
      if (node === current || along < 0.5) continue;
      const far = along + 2.5 * Math.abs(dx * uy - dy * ux);
      if (far < least) [best, least] = [node, far];
    }
    return best;
  };
  const press = (node) => {
    const { mark } = node;
    if (mark.click) set(mark.click);
    if (mark.link) bus.choose(mark.link, source, mark.words);
  };
  const nodeAt = (event) => event.target.closest?.(".mark.live") ?? null;

  svg.addEventListener("pointerover", (event) => {
    if (held) return;
    const node = nodeAt(event);
    if (node === hover) return;
    hover = node;
    if (node) say(node, hoverSource);
    else bus.dark(hoverSource);
  });
  svg.addEventListener("pointerleave", () => {
    hover = null;
    bus.dark(hoverSource);
  });
  svg.addEventListener("click", (event) => {
    if (event.detail > 0 && svg.dataset.dragged) return;
    const node = nodeAt(event);
    if (!node) return bus.choose("", source);
    current = node;
    press(node);
  });
  svg.addEventListener("focus", () => {
    if (!svg.matches(":focus-visible")) return;
    svg.classList.add("walking");
    walkTo(current ?? nodes()[0]);
  });
  svg.addEventListener("blur", () => {
    svg.classList.remove("walking");
    bus.dark(focusSource);
    drawRing();
  });
  svg.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const all = nodes();
    if (WALK[event.key] || event.key === "Home" || event.key === "End") {
      svg.classList.add("walking");
      if (event.key === "Home" || !current) walkTo(all[0]);
      else if (event.key === "End") walkTo(all.at(-1));
      else walkTo(neighbour(WALK[event.key]));
    } else if ((event.key === "Enter" || event.key === " ") && current) press(current);
    else if (event.key === "Escape") {
      current = null;
      bus.choose("", source);
      bus.dark(focusSource);
      drawRing();
    } else return;
    event.preventDefault();
  });

  // -------------------------------------------------------------- drags

  // How far a held mark is from where it was taken: as far as its sliders have moved.
  const pulled = () =>
    Object.fromEntries(
      held.axes.map(({ axis, scale, name, start }) => [
        axis,
        held.from[axis] + scale(controls[name].value()) - start,
      ])
    );
  const scenePoint = (event) => {
    const box = svg.getBoundingClientRect();
    const unit = header.width / box.width;
    return { x: (event.clientX - box.left) * unit, y: (event.clientY - box.top) * unit };
  };
  const tellControls = () => {
    set(Object.fromEntries(held.axes.map(({ name }) => [name, controls[name].value()])));
  };
  svg.addEventListener("pointerdown", (event) => {
    svg.classList.remove("walking");
    drawRing();
    delete svg.dataset.dragged;
    const node = nodeAt(event);
    const drag = node?.mark.drag;
    if (!drag || event.button !== 0 || !d3) return;
    const axes = ["x", "y"]
      .filter((axis) => drag[axis] && controls[drag[axis]]?.moveTo)
      .map((axis) => {
        const [[v0, p0], [v1, p1]] = drag[`${axis}_scale`];
        const scale = d3.scaleLinear([v0, v1], [p0, p1]);
        return { axis, name: drag[axis], scale, start: scale(controls[drag[axis]].value()) };
      });
    if (!axes.length) return;
    event.preventDefault(); // no selection of text, no scrolling
    node.setPointerCapture(event.pointerId);
    held = { node, axes, at: scenePoint(event), from: { x: node.goal.x, y: node.goal.y } };
    node.classList.add("held");
    controls[axes[0].name].focusable.focus({ preventScroll: true }); // arrow keys go on from here
  });
  svg.addEventListener("pointermove", (event) => {
    if (!held) return;
    const at = scenePoint(event);
    const reach = (CLICK_REACH * header.width) / svg.clientWidth;
    if (!svg.dataset.dragged && Math.hypot(at.x - held.at.x, at.y - held.at.y) < reach) return;
    svg.dataset.dragged = "true";
    let moved = false;
    for (const { axis, name, scale, start } of held.axes) {
      const before = controls[name].value();
      controls[name].moveTo(scale.invert(start + at[axis] - held.at[axis]));
      moved ||= controls[name].value() !== before;
    }
    if (!moved) return;
    Object.assign(held.node.goal, pulled());
    d3.select(held.node).interrupt();
    place(held.node);
    if (held.axes.every(({ name }) => controls[name].live)) tellControls();
  });
  const release = () => {
    if (!held) return;
    held.node.classList.remove("held");
    if (svg.dataset.dragged) tellControls();
    held = null;
  };
  // The style sheet's touch-action does not reach parts of an SVG in every browser.
  const noScroll = (event) => held && event.preventDefault();
  svg.addEventListener("touchmove", noScroll, { passive: false });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    svg.addEventListener(end, release);
  }

  // -------------------------------------------------------------- size

  let fitted = ""; // the size of the scenes for which the stage was measured last
  const fit = () => {
    if (!header || !svg.clientWidth) return;
    fitted = sizeOf(header);
    svg.style.setProperty("--scale", (svg.clientWidth / header.width).toFixed(4));
    swarms.fit(header);
  };
  const onResize = new ResizeObserver(fit);
  onResize.observe(stage);

  // Where a new timeline stands: at the same label and stage, else at the same index, else at its
  // own start. Of one that is still growing the newest frame is seen, and who stands at the end of
  // one that has grown stays at its end.
  const keep = () => {
    const before = frames[index];
    const whole = wholeFrames(header);
    let to = drawn && index < whole.length ? index : header.start;
    const same = (frame) => frame?.label === before.label && frame.stage === before.stage;
    if (drawn && (before.label || before.stage) && !same(whole[to])) {
      const found = whole.findIndex(same);
      if (found >= 0) to = found;
    }
    const last = frames.length - 1;
    if (drawn && last > 0 && index === last && to === last && same(whole[to])) to = whole.length - 1;
    if (drawn && model.get("status")?.state === "computing") to = whole.length - 1;
    frames = whole;
    index = to;
  };

  return {
    element,
    // A header and the bytes of its swarms, as scene.py wires them. It is drawn after `first`.
    show(newHeader, bytes, first = null) {
      header = newHeader;
      const { buffer: all, byteOffset, byteLength } = bytes ?? new Uint8Array(0);
      buffer = all.slice(byteOffset, byteOffset + byteLength); // begins at an even byte
      keep();
      write(svg, { viewBox: `0 0 ${header.width} ${header.height}` });
      player.show(frames, index, header);
      const begin = async () => {
        d3 ??= (await loadMotion(model)).d3;
        await first;
        if (header !== newHeader) return; // a newer picture came meanwhile
        // Measuring makes the browser lay out the page, and its own changes are told by onResize.
        if (fitted !== sizeOf(header)) fit();
        goTo(index);
      };
      return (showing = begin());
    },
    // "first", "last", "play", the label of a frame, an index, or {label, stage}.
    seek(where) {
      if (!frames.length || where === null || where === undefined) return;
      if (where === "play") {
        player.step(0);
        return player.play();
      }
      const named = typeof where === "string" ? { label: where } : where;
      const found = frames.findIndex(
        ({ label, stage }) => label === named.label && (named.stage ?? stage) === stage
      );
      if (where === "first") player.step(0);
      else if (where === "last") player.step(frames.length - 1);
      else if (typeof where === "number") player.step(where);
      else if (found >= 0) player.step(found);
    },
    sentences: () => frames.map(({ sentence }) => sentence ?? ""),
    ended: () => index >= frames.length - 1,
    // The frame in sight: {index, label, stage, sentence, readouts, figures, arithmetic, …}.
    frame: () => frames[index] ?? null,
    // `listener(frame)` hears every frame that comes into sight; returns the way out.
    onFrame(listener) {
      heard.add(listener);
      return () => heard.delete(listener);
    },
    theme: () => swarms.renew(),
    // Its newest picture stands, or begins to move.
    shown: () => showing,
    settled: () =>
      Promise.race([
        showing.then(() => motion),
        new Promise((resolve) => setTimeout(resolve, PATIENT_MS)),
      ]),
    stop() {
      player.pause();
      onResize.disconnect();
      leave();
      bus.dark(hoverSource);
      bus.dark(focusSource);
      if (d3) d3.select(element).selectAll(".mark, canvas").interrupt();
    },
  };
}
