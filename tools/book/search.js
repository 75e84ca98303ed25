// The search of the book: beginnings of words, in an index that is loaded when it is asked for.

const MOST = 12;

const wordsOf = (text) =>
  text
    .replace(/([a-z\d])([A-Z])/g, "$1 $2")
    .normalize("NFKD")
    .toLowerCase()
    .split(/[^\p{L}\p{N}]+/u)
    .filter(Boolean);

function rowsOf({ kinds, rows, reference }) {
  const last = kinds.indexOf("reference");
  const names = Object.entries(reference).flatMap(([page, inside]) =>
    inside.map((name) => [last, name || page, `api/${page}.html${name && `#${name}`}`, name && page])
  );
  return [...rows, ...names].map(([kind, title, address, beside]) => ({
    kind,
    name: kinds[kind],
    title,
    address,
    beside,
    words: wordsOf(title),
    all: wordsOf(`${title} ${beside}`),
  }));
}

// Rows of which each word of the query begins a word; best first.
export function find(rows, query) {
  const wanted = wordsOf(query);
  if (!wanted.length) return [];
  const found = [];
  for (const row of rows) {
    if (!wanted.every((word) => row.all.some((own) => own.startsWith(word)))) continue;
    const own = wanted.filter((word) => row.words.some((one) => one.startsWith(word))).length;
    const whole = wanted.filter((word) => row.words.includes(word)).length;
    const begins = row.words[0]?.startsWith(wanted[0]) ? 1 : 0;
    found.push([10 * own + 4 * whole + 2 * begins - row.kind - row.words.length / 50, row]);
  }
  return found.sort((one, other) => other[0] - one[0]).map(([, row]) => row);
}

function linkTo(root, { title, address, name, beside }) {
  const link = Object.assign(document.createElement("a"), { href: root + address, textContent: title });
  const kind = document.createElement("span");
  kind.textContent = beside ? `${name}, ${beside}` : name;
  link.append(kind);
  const item = document.createElement("li");
  item.append(link);
  return item;
}

export function makeSearch(input, place) {
  const { root } = document.body.dataset;
  const said = Object.assign(document.createElement("p"), { role: "status" });
  const list = document.createElement("ul");
  place.append(said, list);
  let rows = null;
  const load = () => (rows ??= fetch(`${root}assets/search.json`).then((answer) => answer.json()).then(rowsOf));
  const show = async () => {
    const query = input.value;
    place.hidden = !query.trim();
    if (place.hidden) return;
    let found;
    try {
      found = find(await load(), query);
    } catch (error) {
      rows = null; // the next letter asks again
      said.textContent = `The index could not be loaded: ${error.message}`;
      return;
    }
    if (query !== input.value) return; // another letter was quicker
    const more = found.length > MOST ? `; the first ${MOST}` : "";
    said.textContent = found.length ? `${found.length} found${more}` : "Nothing begins like that.";
    list.replaceChildren(...found.slice(0, MOST).map((row) => linkTo(root, row)));
  };
  const close = () => {
    place.hidden = true;
  };
  const links = () => [input, ...list.querySelectorAll("a")];
  const walk = (event) => {
    if (event.key === "Escape") {
      input.focus();
      close();
    } else if (event.key === "Enter" && event.target === input) links()[1]?.click();
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const row = links();
      const to = row.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
      row[Math.min(Math.max(to, 0), row.length - 1)].focus();
    } else return;
    event.preventDefault();
  };
  input.addEventListener("focus", () => load().catch(() => (rows = null)), { once: true });
  input.addEventListener("input", show);
  input.addEventListener("focus", () => list.children.length && show());
  for (const one of [input, place]) one.addEventListener("keydown", walk);
  addEventListener("pointerdown", (event) => !input.parentElement.contains(event.target) && close());
  input.parentElement.addEventListener("focusout", ({ relatedTarget }) => {
    if (relatedTarget && !input.parentElement.contains(relatedTarget)) close();
  });
}
