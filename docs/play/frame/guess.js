// The question that a widget asks before it shows anything.

import { el } from "./dom.js";

/** The field of a state that holds the guess: none yet, one of the answers, or passed over. */
export function guessField({ options }) {
  const names = ["none", "skip", ...options.map((_, i) => String(i))];
  return {
    label: "Guess",
    kind: "choice",
    value: "none",
    hidden: true,
    write: (x) => x,
    clean: (text) => (names.includes(text) ? { value: text } : { value: "skip" }),
  };
}

/** Build the question; `answer()` computes what is so, `give` takes the guess. */
export function createGuess(id, { question, options }, answer, give) {
  const radios = options.map((text, i) => {
    const name = `${id}-guess`;
    const input = el("input", { type: "radio", name, id: `${name}-${i}`, value: i });
    return { input, root: el("div", { class: "option" }, input, el("label", { for: `${name}-${i}` }, text)) };
  });
  const verdict = el("p", { class: "verdict", role: "status" });
  const again = el("button", {
    type: "button",
    class: "quiet",
    onclick: () => give("none"),
  }, "Ask me again");
  const ask = el(
    "form",
    {
      onsubmit(event) {
        event.preventDefault();
        const chosen = radios.findIndex(({ input }) => input.checked);
        if (chosen >= 0) give(String(chosen));
        else radios[0].input.focus();
      },
    },
    el("fieldset", {}, el("legend", {}, question), radios.map(({ root }) => root)),
    el("div", { class: "row" }, el("button", { class: "primary" }, "Check my guess"), el("button", {
      type: "button", class: "quiet", onclick: () => give("skip"),
    }, "Just show me")),
  );
  const told = el("div", { class: "told" }, verdict, again);
  const root = el("section", { class: "guess", "aria-label": "Guess first" }, el(
    "p", { class: "eyebrow", "aria-hidden": "true" }, "Guess first",
  ), ask, told);
  let before;
  return {
    root,
    sync(guess) {
      if (guess === before) return;
      before = guess;
      // what is hidden loses the focus, which goes on in what takes its place
      const [toTold, toAsk] = [ask, told].map((part) => part.contains(document.activeElement));
      ask.hidden = guess !== "none";
      told.hidden = guess === "none";
      if (toTold) again.focus();
      if (toAsk) radios[0].input.focus();
      if (guess === "none") {
        radios.forEach(({ input }) => { input.checked = false; });
        verdict.textContent = "";
        return;
      }
      const { index, sentence } = answer();
      if (guess === "skip") verdict.textContent = `${question} ${sentence}`;
      else {
        const fate = Number(guess) === index ? "right." : `not so; it is “${options[index]}”.`;
        verdict.textContent = `You guessed “${options[Number(guess)]}”: ${fate} ${sentence}`;
      }
    },
  };
}
