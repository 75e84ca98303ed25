// Plots drawn by one plotly.js per page, in the colours of JupyterLab's theme.

const PLOTLY = Symbol.for("intuitive.plotly");

function loadPlotly(model) {
  window[PLOTLY] ??= (async () => {
    const carrier = await model.widget_manager.get_model(model.get("runtime"));
    const bytes = carrier.get("library");
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

// Python says what is drawn; the page says in which colours axes, grid and text appear.
function themed(layout, theme) {
  const dressed = { ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" };
  dressed.font = { size: 13, ...layout.font, color: theme.text, family: theme.font };
  dressed.hoverlabel = { bgcolor: theme.page, font: { color: theme.text }, ...layout.hoverlabel };
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

const CONFIG = {
  displayModeBar: false,
  displaylogo: false,
  showSendToCloud: false,
  responsive: false,
  scrollZoom: false,
  doubleClick: false,
};

function makePlot(spec, model, send) {
  const element = make("div", {
    class: "intuitive-plot",
    role: "img",
    "aria-label": spec.label,
    "data-plot": spec.name,
    style: `grid-column: span ${spec.span}; height: ${spec.height}px`,
  });
  let plotly = null;
  let drawing = Promise.resolve();
  let wired = false;

  const draw = async () => {
    const figure = model.get(`figure_${spec.name}`);
    if (!figure || !figure.data || !element.isConnected || element.clientWidth === 0) return;
    plotly ??= await loadPlotly(model);
    const layout = themed(figure.layout || {}, themeOf(element));
    layout.width = element.clientWidth;
    layout.height = spec.height;
    layout.dragmode = false;
    await plotly.react(element, figure.data, layout, CONFIG);
    if (!wired && spec.clickable) {
      wired = true;
      element.on("plotly_click", ({ points: [point] }) => {
        if (!point) return;
        const event = { curve: point.curveNumber, x: point.x, y: point.y };
        send({ type: "click", plot: spec.name, event: { ...event, point: point.pointIndex } });
      });
    }
  };
  const redraw = () => (drawing = drawing.then(draw));

  let width = 0;
  const watcher = new ResizeObserver(() => {
    if (element.clientWidth !== width) {
      width = element.clientWidth;
      redraw().catch(() => {});
    }
  });
  return {
    element,
    redraw,
    start: () => watcher.observe(element),
    settled: () => drawing,
    stop() {
      watcher.disconnect();
      if (plotly) plotly.purge(element);
    },
  };
}
