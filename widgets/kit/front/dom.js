// Small helpers shared by every widget of the kit.

// Every widget runs its own copy of this module, so the page keeps the count.
const MADE_IDS = Symbol.for("intuitive.made-ids");
function freshId(stem) {
  window[MADE_IDS] = (window[MADE_IDS] ?? 0) + 1;
  return `intuitive-${stem}-${window[MADE_IDS]}`;
}

// Build an element: make("p", {class: "x", text: "hello"}, child, child).
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// JupyterLab takes arrow keys and letters from any focused control unless the element
// itself says otherwise.
const KEEP_KEYS = { "data-lm-suppress-shortcuts": "true" };

// What stands below must not jump when a part needs a line less: at one width of the explorer, the
// part keeps the room of its tallest state. Answers a function that stops it.
function keepRoom(part, root) {
  let width = 0;
  let tallest = 0;
  const watch = new ResizeObserver(() => {
    if (root.clientWidth !== width) {
      width = root.clientWidth;
      tallest = 0;
      part.style.minHeight = "";
    }
    const { height } = part.getBoundingClientRect();
    if (height <= tallest) return;
    tallest = height;
    part.style.minHeight = `${height}px`;
  });
  watch.observe(part);
  return () => watch.disconnect();
}

// Controls stay in view while a tall explorer scrolls, where they leave the picture its room: they
// scroll with the page if their rows take more than a fifth of the window. What is told below them
// for a while does not count: they stay where they are. Answers a function that stops it.
function stickIfLow(bar, rows) {
  const look = () => {
    const tall = rows.reduce((sum, row) => sum + row.offsetHeight, 0);
    bar.toggleAttribute("data-sticks", tall <= innerHeight / 5);
  };
  const watch = new ResizeObserver(look);
  for (const row of rows) watch.observe(row);
  addEventListener("resize", look);
  return () => {
    watch.disconnect();
    removeEventListener("resize", look);
  };
}
