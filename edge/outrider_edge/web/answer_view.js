// One turn of the conversation on the page: the question, the answer's tokens, and what is said of it.

import { speedUp } from "./answer.js";
import { element } from "./dom.js";
import { counted, duration, ORIGINS, percent } from "./words.js";

export class TurnView {
  /**
   * @param question what the user wrote
   * @param on {retry, compare}: called with this view when its buttons are used
   */
  constructor(question, on) {
    this.question = question;
    this.on = on;
    this.text = element("div", { class: "text", tabindex: "0", role: "group", "aria-label": "Answer; arrow keys walk its tokens" });
    this.foot = element("div");
    this.answered = element("div", { class: "answered" }, this.text, this.foot);
    this.root = element("li", { class: "turn" }, element("p", { class: "asked", text: question }), this.answered);
    this.spans = [];
  }

  /** Show an answer from its beginning. */
  begin(answer) {
    this.answer = answer;
    this.spans = [];
    this.tail = element("span", { class: "tail" });
    this.text.replaceChildren();
    this.text.classList.remove("over");
    this.text.tabIndex = 0;
    this.foot.replaceChildren();
  }

  /** Show the tokens that have come since the last time, and behind them what is not verified. */
  grow() {
    const fresh = this.answer.tokens.slice(this.spans.length).map((token) => this.#span(token));
    this.spans.push(...fresh);
    this.tail.remove();
    this.tail.replaceChildren(...this.answer.unverified.map((token) => this.#unverifiedSpan(token)));
    const shown = fresh.filter((span) => span.textContent);
    this.text.append(...shown, ...(this.tail.textContent ? [this.tail] : []));
  }

  /** It is not one of the tokens that can be walked: nothing is known of it yet. */
  #unverifiedSpan(token) {
    const span = this.#span(token);
    span.removeAttribute("tabindex");
    span.title = ORIGINS.unverified;
    span.token = null;
    return span;
  }

  #span(token) {
    const [, space, word] = /^(\s*)(.*)$/s.exec(token.text);
    const span = element("span", { class: "token", "data-origin": token.origin, tabindex: "-1" }, space);
    if (word) span.append(element("i", { text: word })); // what is shaded: no white space before it
    span.token = token;
    return span;
  }

  /** Say how it ended, once it has. */
  finish() {
    this.text.classList.add("over");
    this.foot.replaceChildren(this.#meta(), ...this.#problem(), ...this.#comparison());
  }

  select(isSelected) {
    this.answered.classList.toggle("selected", isSelected);
  }

  /** The token before or after one; the first or the last without one. */
  neighbour(span, step) {
    const shown = this.spans.filter((one) => one.textContent);
    const at = span ? shown.indexOf(span) + step : step > 0 ? 0 : shown.length - 1;
    return shown[Math.min(Math.max(at, 0), shown.length - 1)];
  }

  #meta() {
    const { answer } = this;
    const ways = { length: "cut at its most tokens", stopped: "stopped", unverified: "no verifier was there in time" };
    const facts = [
      `${counted(answer.tokens.length, "token")} in ${duration(answer.lastTokenS ?? 0)}`,
      answer.unverified.length ? `${counted(answer.unverified.length, "more token")} not verified` : "",
      answer.acceptance === null ? "" : `${percent(answer.count("drafted") / answer.tokens.length)} drafted`,
      answer.request.policy ? `policy ${answer.request.policy}` : "",
      answer.request.temperature > 0 && answer.seed !== null ? `seed ${answer.seed}` : "",
      answer.lossyMode ? `lossy: acceptance mode ${answer.lossyMode}` : "",
      ways[answer.finishReason] ?? "",
    ].filter(Boolean);
    const meta = element("div", { class: "meta" }, ...facts.map((fact) => element("span", { text: fact })));
    if (isWhole(answer) && !answer.measured) meta.append(this.#button(compareLabel(answer), "compare"));
    if (!answer.problem) meta.append(this.#button("Ask again", "retry"));
    return meta;
  }

  #button(label, what) {
    return element("button", { type: "button", class: what, text: label, on: { click: () => this.on[what](this) } });
  }

  #problem() {
    if (!this.answer.problem) return [];
    const said = element("span", { text: this.answer.problem });
    return [element("div", { class: "problem", role: "alert" }, said, this.#button("Try again", "retry"))];
  }

  #comparison() {
    const other = this.answer.measured;
    return other ? [comparison(this.answer, other)] : [];
  }
}

export function isWhole(answer) {
  const isCut = ["stopped", "unverified"].includes(answer.finishReason);
  return answer.isOver && !answer.problem && !isCut && answer.tokens.length > 1;
}

/** The policy that an answer is compared with. */
export function otherPolicy(answer) {
  return answer.request.policy === "cloud" ? "auto" : "cloud";
}

function compareLabel(answer) {
  return otherPolicy(answer) === "cloud" ? "Compare with the cloud alone" : "Compare with auto";
}

/** Two answers to one prompt, side by side. */
function comparison(ours, theirs) {
  const longestS = Math.max(ours.lastTokenS ?? 0, theirs.lastTokenS ?? 0);
  const box = element("div", { class: "comparison", role: "group", "aria-label": "Comparison of policies" });
  box.append(lane(ours, "ours", longestS), lane(theirs, "theirs", longestS));
  box.append(element("p", { class: "verdict", role: theirs.isOver ? "status" : null }, ...verdict(ours, theirs)));
  return box;
}

function lane(answer, side, longestS) {
  const bar = element("i");
  bar.style.setProperty("--share", String(longestS ? (answer.lastTokenS ?? 0) / longestS : 0));
  const speed = answer.tokensPerS === null ? "" : `, ${answer.tokensPerS.toFixed(1)} tokens/s`;
  return element(
    "div",
    { class: `lane ${side}` },
    element("span", { text: answer.request.policy === "cloud" ? "cloud alone" : answer.request.policy }),
    element("span", { class: "track" }, bar),
    element("span", { class: "end", text: `${duration(answer.lastTokenS ?? 0)}${speed}` }),
  );
}

function verdict(ours, theirs) {
  if (theirs.problem) return [`The comparison failed: ${theirs.problem}`];
  if (!theirs.isOver) return ["measuring: the same prompt and seed, under the other policy"];
  const ratio = speedUp(ours, theirs);
  const faster = ratio === null ? "" : `${ratio.toFixed(2)} times as fast`;
  const isSame = ours.text === theirs.text;
  const same = isSame ? "the same text, letter for letter" : "another text: only a lossy acceptance mode may differ";
  return [element("b", { text: faster || "Measured" }), `, ${same}.`];
}
