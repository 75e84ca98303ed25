// What is lit: one bus for hover, keyboard focus and clicks. A link is the name of a thing; every
// view that shows the thing lights when anybody lights its link.

function makeBus() {
  const held = new Map(); // by source, what it lights: the last one counts, the others wait
  const listeners = new Set();
  let related = {};
  let chosen = null;

  const main = () => [...held.values()].at(-1) ?? chosen ?? { link: "", words: "" };
  const lit = ({ link }) => new Set(link ? [link, ...(related[link] ?? [])] : []);
  const tell = () => {
    const now = main();
    for (const listener of listeners) listener.lit?.(lit(now), now.link, now.words);
  };

  return {
    // `link` may be empty where a mark has only words.
    light(link, source, words = "") {
      const top = [...held].at(-1);
      if (top && top[0] === source && top[1].link === link && top[1].words === words) return;
      held.delete(source);
      held.set(source, { link, words });
      tell();
    },
    // What another source still holds, such as the keyboard's focus, is lit again.
    dark(source) {
      if (held.delete(source)) tell();
    },
    // What was clicked stays lit while nothing else is; an empty link lets it go.
    choose(link, source, words = "") {
      chosen = link ? { link, words, source } : null;
      for (const listener of listeners) listener.chosen?.(link, words, source);
      tell();
    },
    // With the next picture the chosen thing stays lit, if it is there, but has had its say.
    goOn(source, isThere) {
      if (chosen?.source !== source) return;
      if (!isThere(chosen.link)) return this.choose("", source);
      chosen.words = "";
      tell();
    },
    // By link, the links that light along with it, more weakly.
    setRelated(links) {
      related = links ?? {};
      tell();
    },
    // `lit(links, main, words)` takes all that is lit, `main` strongly; `chosen(link, words,
    // source)` takes what was clicked. Returns the way out.
    subscribe(listener) {
      listeners.add(listener);
      const now = main();
      listener.lit?.(lit(now), now.link, now.words);
      return () => listeners.delete(listener);
    },
  };
}
