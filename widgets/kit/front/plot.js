// Plots drawn by one plotly.js per page, in the colours of JupyterLab's theme.

const PLOTLY = Symbol.for("intuitive.plotly");

function loadPlotly(model) {
  window[PLOTLY] ??= (async () => {
    const carrier = await model.widget_manager.get_model(model.get("runtime"));
    const bytes = await carrier.get("library");
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const source = await new Response(stream).text();
    const holder = { exports: {} };
    new Function("module", "exports", "define", source)(holder, holder.exports, undefined);
    return holder.exports;
  })();
  window[PLOTLY].catch(() => (window[PLOTLY] = undefined));
  return window[PLOTLY];
}

function themeOf(element) {
  const style = getComputedStyle(element);
  const read = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  return {
    text: read("--jp-ui-font-color1", "#222"),
    faint: read("--jp-border-color2", "#ccc"),
    line: read("--jp-border-color0", "#999"),
    page: read("--jp-layout-color0", "#fff"),
    font: style.fontFamily,
  };
}

// JupyterLab names the new theme before its colours have arrived: look again with every style
// sheet that loads. Reading colours makes the browser go through all styles, so `now` keeps them.
function watchTheme(element, changed) {
  let theme = themeOf(element);
  let known = element.isConnected;
  const look = () => {
    const before = JSON.stringify(theme);
    theme = themeOf(element);
    known = element.isConnected;
    if (JSON.stringify(theme) !== before) changed();
  };
  const watcher = new MutationObserver(look);
  watcher.observe(document.body, { attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  document.addEventListener("load", look, true); // such events do not bubble
  return {
    now() {
      if (!known) [theme, known] = [themeOf(element), element.isConnected];
      return theme;
    },
    stop() {
      watcher.disconnect();
      document.removeEventListener("load", look, true);
    },
  };
}

// plotly draws everything anew when an array, or the template, is another object than before,
// and it unpacks packed arrays into other objects every time. Unpack them here, once, and hand
// over the old part where nothing in it has changed.
const NUMBERS = {
  ...{ i1: Int8Array, u1: Uint8Array, i2: Int16Array, u2: Uint16Array },
  ...{ i4: Int32Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array },
};

function unpack(value) {
  if (Array.isArray(value)) return value.map(unpack);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.bdata !== "string" || !(value.dtype in NUMBERS)) {
    return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, unpack(part)]));
  }
  const bytes = Uint8Array.from(atob(value.bdata), (character) => character.charCodeAt(0));
  const numbers = new NUMBERS[value.dtype](bytes.buffer);
  if (value.shape === undefined) return numbers;
  const [rows, columns] = String(value.shape).split(",").map(Number);
  const row = (index) => numbers.subarray(index * columns, (index + 1) * columns);
  return Array.from({ length: rows }, (_, index) => row(index));
}

function makeReuse() {
  const known = new Map();
  const reuse = (key, part) => {
    const text = JSON.stringify(part);
    if (known.get(key)?.text !== text) known.set(key, { text, part: unpack(part) });
    return known.get(key).part;
  };
  return ({ data, layout = {} }) => ({
    data: data.map((trace, index) => reuse(index, trace)),
    layout: Object.fromEntries(Object.entries(layout).map(([name, part]) => [name, reuse(name, part)])),
  });
}

// Python says what is drawn; the page says in which colours axes, grid and text appear.
function themed(layout, theme) {
  const dressed = { ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" };
  dressed.font = { size: 13, ...layout.font, color: theme.text, family: theme.font };
  dressed.hoverlabel = { bgcolor: theme.page, font: { color: theme.text }, ...layout.hoverlabel };
  if (layout.shapes) {
    dressed.shapes = layout.shapes.map((shape) =>
      shape.fillcolor === "page" ? { ...shape, fillcolor: theme.page } : shape
    );
  }
  if (layout.annotations) {
    dressed.annotations = layout.annotations.map((note) => ({ arrowcolor: theme.line, ...note }));
  }
  for (const key of Object.keys(layout)) {
    if (/^[xy]axis\d*$/.test(key)) {
      dressed[key] = {
        gridcolor: theme.faint,
        linecolor: theme.line,
        zerolinecolor: theme.line,
        tickcolor: theme.line,
        ...layout[key],
      };
    }
  }
  return dressed;
}

const PATIENCE_MS = 5000;

const CONFIG = {
  displayModeBar: false,
  displaylogo: false,
  showSendToCloud: false,
  responsive: false,
  scrollZoom: false,
  doubleClick: false,
  showAxisDragHandles: false,
};

// Points are things on the bus where their trace has `ids`, a link each, or `meta`, one for all.
// (plotly joins points by `ids`: of two with the same only one has a marker.)
const linkAt = (trace, index) => trace?.ids?.[index] ?? trace?.meta;

function makePlot(spec, model, send, handles, bus, figureOf, theme) {
  const element = make("div", {
    class: "intuitive-plot",
    role: "img",
    "aria-label": spec.label,
    "data-plot": spec.name,
    style: `height: ${spec.height}px`,
  });
  const rings = make("div", { class: "intuitive-rings", "aria-hidden": "true" });
  const frame = make(
    "div",
    { class: "intuitive-frame", style: `grid-column: span ${spec.span}` },
    make("div", { class: "intuitive-stage" }, element, rings, ...handles.map((handle) => handle.element)),
    spec.caption ? make("p", { class: "intuitive-help", text: spec.caption }) : null
  );
  let plotly = null;
  let drawing = Promise.resolve();
  let wired = false;
  const reuse = makeReuse();

  // The width that the observer told last; measured, which lays out the page, where it has told of
  // none. What is about to be hidden keeps it until then.
  let width = 0;
  const widthNow = () => {
    if (!element.isConnected || element.closest("[hidden]")) return 0;
    return (width ||= element.offsetWidth);
  };
  // plotly asks its element for them before every drawing.
  Object.defineProperties(element, {
    clientWidth: { get: () => width },
    clientHeight: { get: () => spec.height },
  });
  // What the drawn picture depends on besides the figure itself.
  const surroundings = () => `${widthNow()} ${JSON.stringify(theme())}`;
  let drawnIn = "";
  let drawn = null; // the figure that stands there

  const draw = async () => {
    const figure = figureOf(spec.name);
    if (!figure || !figure.data || widthNow() === 0) return;
    plotly ??= await loadPlotly(model);
    if (widthNow() === 0) return; // hidden while the library came
    const around = surroundings();
    if (figure === drawn && around === drawnIn) return;
    drawn = null;
    const { data, layout: plain } = reuse(figure);
    const layout = themed(plain, theme());
    layout.width = widthNow();
    layout.height = spec.height;
    layout.dragmode = false;
    // A configuration given again is compared, for which plotly lays out the page.
    await plotly.react(element, data, layout, ...(element._fullLayout ? [] : [CONFIG]));
    [drawn, drawnIn] = [figure, around];
    for (const handle of handles) handle.show(element);
    ring(lit);
    if (!wired) {
      wired = true;
      const linkOf = (point) => linkAt(point?.data, point?.pointIndex);
      element.on("plotly_hover", ({ points: [point] }) => {
        if (linkOf(point)) bus.light(linkOf(point), `plot ${spec.name}`);
      });
      element.on("plotly_unhover", () => bus.dark(`plot ${spec.name}`));
      element.on("plotly_click", ({ points: [point] }) => {
        if (!point) return;
        if (linkOf(point)) bus.choose(linkOf(point), `plot ${spec.name}`);
        if (!spec.clickable) return;
        const event = { curve: point.curveNumber, x: point.x, y: point.y };
        send({ type: "click", plot: spec.name, event: { ...event, point: point.pointIndex } });
      });
    }
  };
  // A ring around every drawn point of the things that are lit.
  const ring = (links) => {
    const found = [];
    for (const trace of links.size && plotly ? element._fullData ?? [] : []) {
      if (!linkAt(trace, 0) || trace.visible !== true) continue;
      const axis = (name) => element._fullLayout[`${name[0]}axis${name.slice(1)}`];
      const [x, y] = [axis(trace.xaxis ?? "x"), axis(trace.yaxis ?? "y")];
      if (!x || !y) continue;
      trace.x.forEach((place, index) => {
        if (!links.has(linkAt(trace, index))) return;
        const left = x._offset + x.d2p(place);
        const top = y._offset + y.d2p(trace.y[index]);
        if (Number.isFinite(left + top)) found.push(make("span", { style: `left:${left}px;top:${top}px` }));
      });
    }
    rings.replaceChildren(...found);
  };
  let lit = new Set();
  const unsubscribe = bus.subscribe({ lit: (links) => ring((lit = links)) });

  // A drawing that never ends may hold up neither the next one nor the status line.
  const patience = () => new Promise((resolve) => setTimeout(resolve, PATIENCE_MS));
  // Of several that wait, as while a timeline is scrubbed, only the last one draws.
  let asked = 0;
  const redraw = () => {
    const own = ++asked;
    const turn = Promise.race([drawing, patience()]).catch(() => {});
    return (drawing = turn.then(() => (own === asked ? draw() : undefined)));
  };
  const redrawIfMoved = () => {
    width = element.offsetWidth;
    if (surroundings() !== drawnIn) redraw().catch(() => {});
  };

  // Cells out of sight have no width, and may miss a change of theme.
  const onResize = new ResizeObserver(redrawIfMoved);
  const onSight = new IntersectionObserver(redrawIfMoved);
  return {
    element: frame,
    redraw,
    showHandles: () => handles.forEach((handle) => handle.show()),
    start() {
      onResize.observe(element);
      onSight.observe(element);
    },
    settled: () => Promise.race([drawing, patience()]),
    stop() {
      onResize.disconnect();
      onSight.disconnect();
      unsubscribe();
      if (plotly) plotly.purge(element);
    },
  };
}
