// The card that says what is known of a token, or of a bar of the timeline, beside it.

import { byId, element } from "./dom.js";
import { barInWords } from "./timeline.js";
import { chance, counted, milliseconds, ORIGINS, visible } from "./words.js";

const GAP = 8;
const MOST_OTHERS = 6;

export class Card {
  constructor() {
    this.root = byId("card");
  }

  hide() {
    this.root.hidden = true;
  }

  /** All that is known of a token, beside a rectangle of the page. */
  showToken(token, answer, place) {
    this.#show(tokenParts(token, answer), place);
  }

  showBar(what, answer, place) {
    this.#show([element("p", { text: barInWords(what, answer) })], place);
  }

  #show(parts, place) {
    this.root.replaceChildren(...parts);
    this.root.hidden = false;
    this.root.classList.toggle("high", place.bottom > window.innerHeight / 2); // on a narrow page
    const { width, height } = this.root.getBoundingClientRect();
    const left = Math.min(Math.max(place.left, GAP), window.innerWidth - width - GAP);
    const below = place.bottom + GAP;
    const fits = below + height + GAP <= window.innerHeight;
    const top = fits ? below : Math.max(place.top - height - GAP, GAP);
    this.root.style.setProperty("left", `${left}px`);
    this.root.style.setProperty("top", `${top}px`);
  }
}

function tokenParts(token, answer) {
  const title = element(
    "p",
    { class: "title" },
    element("span", { class: "said", text: visible(token.text) }),
    element("span", { class: "origin", "data-origin": token.origin, text: token.origin }),
  );
  const why = element("p", { class: "why", text: ORIGINS[token.origin] });
  return [title, why, table(facts(token, answer)), ...others(token, answer)];
}

/** Names and values, as far as they are known. */
function facts(token, answer) {
  const node = answer.nodeOf(token);
  const pass = answer.passOf(token);
  const rows = [["Place", `position ${token.position}, token ${token.token}`]];
  if (token.logprobs) rows.push(["Target", probability(token)]);
  if (node) {
    rows.push(["Drafted", `${milliseconds(node.drafted_at_s)}, by ${node.proposer}, chance ${chance(node.chance)}`]);
    rows.push(["Sent", milliseconds(node.sent_at_s)]);
  }
  rows.push(["Committed", milliseconds(token.committed_at_s)]);
  if (node) rows.push(["Waited", `${milliseconds(token.committed_at_s - node.drafted_at_s)} from drafted to committed`]);
  if (pass) rows.push(["Pass", `no. ${pass.index + 1}: ${counted(pass.num_rows, "row")}, ${milliseconds(pass.pass_s)}, queued ${milliseconds(pass.queue_s)}`]);
  return rows;
}

/** How likely the target itself found it, and where it stands among the likeliest. */
function probability(token) {
  const { logprob, top } = token.logprobs;
  const rank = top.findIndex(([other]) => other === token.token);
  const place = rank === 0 ? "its likeliest" : rank > 0 ? `its no. ${rank + 1}` : `not among its first ${top.length}`;
  return `probability ${chance(Math.exp(logprob))}, ${place}`;
}

/** How likely the target found a token for a place, if that is among what it told. */
function probabilityOf(token, other) {
  const known = token.logprobs?.top.find(([one]) => one === other);
  return known ? chance(Math.exp(known[1])) : "";
}

function table(rows) {
  const lines = rows.map(([name, value]) =>
    element("tr", {}, element("th", { scope: "row", text: name }), element("td", { text: value })),
  );
  return element("table", {}, element("tbody", {}, ...lines));
}

/** What was drafted for the same place, and did not become text. */
function others(token, answer) {
  const nodes = answer.alternatives(token);
  const beside = answer.numBeside(token);
  if (!nodes.length && !beside) return [];
  const lines = nodes.slice(0, MOST_OTHERS).map((node) => {
    const fate = answer.fateOf(node);
    return element(
      "tr",
      {},
      element("td", { text: visible(node.text) }),
      element("td", { class: "fate", "data-fate": fate, text: fate === "late" ? "too late" : fate }),
      element("td", { class: "number", text: `${node.proposer} ${chance(node.chance)}` }),
      element("td", { class: "number", text: probabilityOf(token, node.token) }),
    );
  });
  const more = [
    nodes.length > MOST_OTHERS ? `${nodes.length - MOST_OTHERS} more` : "",
    beside ? `${counted(beside, "guess").replace("guesss", "guesses")} hung from wrong ones` : "",
  ].filter(Boolean);
  const told = token.logprobs && lines.length ? ": worth as guessed, and the target’s probability" : "";
  const parts = [element("h3", { text: `Also drafted for this place${told}` })];
  if (lines.length) parts.push(element("table", {}, element("tbody", {}, ...lines)));
  if (more.length) parts.push(element("p", { class: "small", text: more.join("; ") }));
  return [element("div", { class: "others" }, ...parts)];
}
