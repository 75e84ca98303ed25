// Does anybody answer? Every change carries a number; Python sends it back. Where the number does
// not come back in time, the page says so, and how to go on. A verdict is an answer as well, however
// late: it was asked for by a message of its own, which may reach Python without the number.

const ANSWER_WITHIN_MS = 1500;
const VERDICTS = ["change:feedback", "change:verdict"];
const BUSY = "Python is busy with another cell. This picture follows as soon as that is done.";
const NOT_RUNNING =
  "Python is not running, or was restarted: this is the last picture it made. To go on, run this cell again " +
  "(after a restart, the cells above it first: Run ▸ Run All Above Selected Cell).";

function makeLiveness(model) {
  const element = make("div", { class: "intuitive-silence", role: "alert" });
  let waitingFor = 0;
  let answered = 0;
  let timer = null;
  const kernelStatus = () => {
    try {
      return model.widget_manager?.kernel?.status;
    } catch {
      return undefined;
    }
  };
  const heard = () => Math.max(model.get("heard") ?? 0, answered) >= waitingFor;
  const look = () => {
    if (heard()) return quiet();
    const busy = kernelStatus() === "busy";
    element.textContent = busy ? BUSY : NOT_RUNNING;
    element.dataset.silence = busy ? "busy" : "asleep";
    timer = setTimeout(look, ANSWER_WITHIN_MS);
  };
  const quiet = () => {
    clearTimeout(timer);
    timer = null;
    element.textContent = "";
    delete element.dataset.silence;
  };
  const onHeard = () => heard() && quiet();
  const onVerdict = () => {
    answered = waitingFor;
    quiet();
  };
  model.on("change:heard", onHeard);
  for (const verdict of VERDICTS) model.on(verdict, onVerdict);
  return {
    element,
    // Call before `model.save_changes()`: the number travels with the change.
    ask() {
      waitingFor = Math.max(model.get("asked") ?? 0, model.get("heard") ?? 0, waitingFor) + 1;
      model.set("asked", waitingFor);
      timer ??= setTimeout(look, ANSWER_WITHIN_MS);
    },
    stop() {
      model.off("change:heard", onHeard);
      for (const verdict of VERDICTS) model.off(verdict, onVerdict);
      clearTimeout(timer);
    },
  };
}

// Until a widget lives, its cell shows a picture of it and how to run it (showing.py). In JupyterLab
// the style sheet hides both as long as it lives. Other front ends name their outputs otherwise, so
// there they are found by their place: the advice alone in an output before the widget's, the picture
// before it. Answers a function that shows them again.
function isAdvice(output) {
  const advice = output?.querySelector(".intuitive-asleep");
  if (!advice || output.querySelector("img")) return false;
  const style = output.querySelector("style")?.textContent ?? "";
  return output.textContent.replace(style, "").trim() === advice.textContent.trim();
}

function hideAsleep(root) {
  const hidden = [];
  let waiting = 0;
  const look = () => {
    if (!root.isConnected) {
      waiting = requestAnimationFrame(look);
      return;
    }
    if (root.closest(".jp-OutputArea-child")) return;
    let output = root;
    while (output && !isAdvice(output.previousElementSibling)) output = output.parentElement;
    const advice = output?.previousElementSibling;
    for (const part of [advice, advice?.previousElementSibling]) {
      if (!part) continue;
      hidden.push([part, part.style.display]);
      part.style.display = "none";
    }
  };
  look();
  return () => {
    cancelAnimationFrame(waiting);
    for (const [part, display] of hidden) part.style.display = display;
  };
}
