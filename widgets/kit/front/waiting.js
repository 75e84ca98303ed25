// What stands on the page is dimmed, and told to be busy, while the picture of the controls is on
// its way from Python for longer than a moment; what is answered at once does not flicker.

const MOMENT_MS = 300;

function makeWaiting(parts) {
  let timer = null;
  const dim = (busy) => {
    for (const part of parts) {
      if (busy) part.setAttribute("aria-busy", "true");
      else part.removeAttribute("aria-busy");
    }
  };
  const stop = () => {
    clearTimeout(timer);
    timer = null;
  };
  return {
    // The controls stand elsewhere than the picture.
    begin: () => (timer ??= setTimeout(dim, MOMENT_MS, true)),
    // A picture came: one that still is not that of the controls is new for a moment.
    came: stop,
    // The picture of the controls is drawn.
    end() {
      stop();
      dim(false);
    },
    stop,
  };
}
