// The book's own script: theme, menu, search, formulas, and folds that a link points into.

import "./recorded.js";
import { library } from "./recorded.js";
import { makeSearch } from "./search.js";

const button = document.getElementById("theme");
const KEY = "intuitive/theme";
function use(theme) {
  document.body.dataset.jpThemeLight = String(theme === "light");
  button.textContent = theme === "light" ? "Dark" : "Light";
  button.setAttribute("aria-label", `${button.textContent} theme`);
}
const stored = () => {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
};
const wanted = new URLSearchParams(location.search).get("theme") ?? stored();
use(wanted ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
button.addEventListener("click", () => {
  const theme = document.body.dataset.jpThemeLight === "true" ? "dark" : "light";
  use(theme);
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // the page forgets
  }
});

// In a narrow window the list of pages waits behind a button.
const menu = document.getElementById("book-menu");
const pages = document.getElementById("book-pages");
function openMenu(open) {
  menu.setAttribute("aria-expanded", String(open));
  pages.toggleAttribute("data-open", open);
}
menu.addEventListener("click", () => openMenu(menu.getAttribute("aria-expanded") !== "true"));
addEventListener("keydown", ({ key, target }) => {
  if (key !== "Escape" || !pages.hasAttribute("data-open")) return;
  if (pages.contains(target)) menu.focus();
  openMenu(false);
});
document.body.dataset.scripted = ""; // what needs this script is seen from here on
const search = document.getElementById("book-search");
for (const one of [menu, button, search]) one.hidden = false;
makeSearch(search, document.getElementById("book-found"));

async function setFormulas(places) {
  const packed = new Blob([await library("motion")]).stream();
  const source = await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).text();
  const holder = { exports: {} };
  new Function("module", "exports", source)(holder, holder.exports);
  const { temml } = holder.exports;
  for (const place of places) {
    temml.render(place.textContent, place, { displayMode: "display" in place.dataset });
  }
}
const formulas = document.querySelectorAll(".tex");
if (formulas.length) setFormulas(formulas);

const unfold = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  target?.closest("details")?.setAttribute("open", "");
};
addEventListener("hashchange", unfold);
unfold();
