// The timeline of an answer on a canvas: the drafter above, the verifier below it, the text at the
// bottom. Laid out as outrider_charts/timeline.py is. Knows nothing of streams or of the page.

import { chance, milliseconds, percent, visible } from "./words.js";

const LOOKS = {
  committed: "committed",
  rejected: "rejected",
  late: "late",
  "never judged": "unjudged",
  "under way": "flying",
};
const LETTERS_ON = { unjudged: "on-pale", late: "on-bright", flying: "ink" };
const COLOURS = [
  "page", "ink", "faint", "grid", "lane", "committed", "rejected", "late", "unjudged", "pass",
  "on-colour", "on-pale", "on-bright",
];
const GUTTER = 64;
const NARROW_GUTTER = 54;

export class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.hits = []; // what is drawn where, the latest on top
    this.readColours();
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    this.colours = Object.fromEntries(
      COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
    );
    this.font = style.getPropertyValue("--letters");
  }

  get width() {
    return this.canvas.clientWidth;
  }

  get height() {
    return this.canvas.clientHeight;
  }

  get gutter() {
    return this.width < 480 ? NARROW_GUTTER : GUTTER;
  }

  get plotWidth() {
    return Math.max(this.width - this.gutter - 8, 1);
  }

  /** Draw the part of an answer from a time on, as long as `lengthS`; `nowS` only while it runs. */
  draw(answer, view) {
    this.view = view;
    this.hits = [];
    this.#layOut();
    this.#clear();
    if (!answer) return this.#blank();
    const { context } = this;
    this.oneWayS = view.roundTripS / 2;
    this.#lanes();
    this.#axis();
    context.save();
    context.beginPath();
    context.rect(this.gutter, 0, this.plotWidth, this.height);
    context.clip();
    this.#ups(answer);
    this.#downs(answer);
    this.#drafts(answer);
    this.#passes(answer);
    this.#texts(answer);
    if (view.nowS !== null) this.#now();
    context.restore();
  }

  /** What is drawn at a point: `{node}`, `{pass}` or `{token}`; undefined if nothing is. */
  at(x, y) {
    const near = (hit) => x >= hit.x - 1 && x <= hit.x + hit.width + 1 && y >= hit.y && y <= hit.y + hit.height;
    return this.hits.findLast(near)?.what;
  }

  secondsAt(x) {
    return this.view.beginS + ((x - this.gutter) / this.plotWidth) * this.view.lengthS;
  }

  // --- Where things are -----------------------------------------------------------------------

  #layOut() {
    const room = this.height - 20; // the axis below
    const share = (part) => Math.round((room * part) / 234);
    this.draftsY = share(8);
    this.draftsHeight = share(54);
    this.passesY = share(104);
    this.passesHeight = share(44);
    this.textY = share(190);
    this.textHeight = share(36);
    this.axisY = room + 2;
  }

  #x(seconds) {
    return this.gutter + ((seconds - this.view.beginS) / this.view.lengthS) * this.plotWidth;
  }

  #isSeen(beginS, endS) {
    return beginS < this.view.beginS + this.view.lengthS && endS > this.view.beginS;
  }

  // --- The ground -----------------------------------------------------------------------------

  #clear() {
    const { canvas, context } = this;
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(this.width * scale), Math.round(this.height * scale)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    context.textBaseline = "middle";
  }

  #blank() {
    this.oneWayS = 0;
    this.#lanes();
    this.#say("What both sides do, while they do it.", this.gutter + this.plotWidth / 2, this.passesY + this.passesHeight / 2, "faint", 12);
  }

  #lanes() {
    const lanes = [
      [this.draftsY, this.draftsHeight, "drafts"],
      [this.passesY, this.passesHeight, "passes"],
      [this.textY, this.textHeight, "text"],
    ];
    for (const [y, height, name] of lanes) {
      this.context.fillStyle = this.colours.lane;
      this.context.fillRect(this.gutter, y - 3, this.plotWidth, height + 6);
      this.#say(name, 8, y + height / 2, "ink", 11, "left");
    }
    const ways = [
      [(this.draftsY + this.draftsHeight + this.passesY) / 2, "uplink"],
      [(this.passesY + this.passesHeight + this.textY) / 2, "downlink"],
    ];
    for (const [y, name] of ways) this.#say(name, 8, y, "faint", this.gutter < GUTTER ? 9 : 10.5, "left");
  }

  #axis() {
    const { beginS, lengthS } = this.view;
    const step = roundStep((lengthS * 1e3) / Math.max(this.plotWidth / 80, 2));
    const { context } = this;
    context.strokeStyle = this.colours.grid;
    context.lineWidth = 1;
    for (let ms = Math.ceil(Math.max(beginS, 0) * 1e3 / step) * step; ms <= (beginS + lengthS) * 1e3; ms += step) {
      const x = Math.round(this.#x(ms / 1e3)) + 0.5;
      context.beginPath();
      context.moveTo(x, 2);
      context.lineTo(x, this.axisY);
      context.stroke();
      const isLast = x > this.gutter + this.plotWidth - 24;
      if (x > this.gutter + 8 && !isLast) this.#say(axisLabel(ms, step), x, this.axisY + 9, "faint", 10.5);
    }
  }

  #now() {
    const { context } = this;
    const x = this.#x(this.view.nowS);
    context.strokeStyle = this.colours.faint;
    context.lineWidth = 1;
    context.setLineDash([2, 3]);
    context.beginPath();
    context.moveTo(x, 0);
    context.lineTo(x, this.axisY);
    context.stroke();
    context.setLineDash([]);
  }

  // --- What happened --------------------------------------------------------------------------

  /** One bar for each run, with a strip for each node that was hung after it and before the next. */
  #drafts(answer) {
    const hung = nodesByDraft(answer);
    answer.drafts.forEach((draft, i) => {
      if (!this.#isSeen(draft.began_s, draft.ended_s)) return;
      const left = this.#x(draft.began_s);
      const width = Math.max(this.#x(draft.ended_s) - left - 1, 1);
      const nodes = hung[i];
      if (!nodes.length) return this.#outline(left, this.draftsY, width, this.draftsHeight, "unjudged");
      const height = this.draftsHeight / nodes.length;
      nodes.forEach((node, j) => {
        const y = this.draftsY + j * height;
        const look = LOOKS[answer.fateOf(node)];
        this.#bar(left, y, width, Math.max(height - 1, 1), look, { node });
        if (height >= 11) this.#fitted(node.text, left, width, y + height / 2, look);
      });
    });
  }

  #ups(answer) {
    for (const message of messages(answer)) {
      const sentS = message[0].sent_at_s;
      if (!this.#isSeen(sentS, sentS + this.oneWayS)) continue;
      const look = LOOKS[bestFate(message.map((node) => answer.fateOf(node)))];
      this.#way(sentS, sentS + this.oneWayS, this.draftsY + this.draftsHeight + 1, this.passesY - 2, look, message);
    }
  }

  #downs(answer) {
    for (const pass of answer.passes) {
      const endedS = pass.arrived_at_s - this.oneWayS;
      if (!this.#isSeen(endedS, pass.arrived_at_s)) continue;
      this.#way(endedS, pass.arrived_at_s, this.passesY + this.passesHeight + 2, this.textY - 2, "pass", []);
    }
  }

  #way(sentS, arrivedS, top, bottom, look, nodes) {
    const { context } = this;
    const end = this.view.nowS === null ? arrivedS : Math.min(arrivedS, Math.max(this.view.nowS, sentS));
    const share = arrivedS > sentS ? (end - sentS) / (arrivedS - sentS) : 1;
    const [left, right, y] = [this.#x(sentS), this.#x(end), top + (bottom - top) * share];
    const isMarked = nodes.some((node) => node.position === this.view.position);
    context.strokeStyle = context.fillStyle = look === "flying" ? this.colours.faint : this.colours[look];
    context.lineWidth = isMarked ? 3 : 1.5;
    context.beginPath();
    context.moveTo(left, top);
    context.lineTo(right, y);
    context.stroke();
    context.beginPath();
    context.arc(right, y, 2.3, 0, 2 * Math.PI);
    context.fill();
  }

  #passes(answer) {
    const seen = answer.passes.map((pass) => ({ pass, ...this.#spanOf(pass) }));
    const shown = seen.filter(({ waitedS, endedS }) => this.#isSeen(waitedS, endedS));
    for (const { waitedS, beganS } of shown) this.#wait(this.#x(waitedS), this.#x(beganS));
    shown.forEach(({ pass, beganS, endedS }, i) => {
      const coveredS = Math.min(endedS, shown[i + 1]?.beganS ?? endedS); // estimates may overlap
      this.#pass(pass, this.#x(beganS), this.#x(endedS), this.#x(coveredS));
    });
  }

  /** When a pass took place, by estimate. */
  #spanOf(pass) {
    const endedS = Math.max(pass.arrived_at_s - this.oneWayS, 0);
    const beganS = Math.max(endedS - pass.pass_s, 0);
    return { endedS, beganS, waitedS: Math.max(beganS - pass.queue_s, 0) };
  }

  #pass(pass, left, right, covered) {
    const width = Math.max(right - left - 1, 1);
    this.#bar(left, this.passesY, width, this.passesHeight, "pass", { pass });
    const rows = pass.num_rows === 1 ? "1 row" : `${pass.num_rows} rows`;
    const lines = this.passesHeight > 30 ? [rows, `${pass.num_accepted} taken`] : [rows];
    lines.forEach((line, i) => {
      const middle = this.passesY + this.passesHeight / 2 + (i - (lines.length - 1) / 2) * 13;
      this.#fitted(line, left, Math.min(width, covered - left), middle, "pass", 10.5);
    });
  }

  #wait(left, right) {
    if (right - left < 1) return;
    const y = Math.round(this.passesY + this.passesHeight / 2) + 0.5;
    this.context.strokeStyle = this.colours.ink;
    this.context.lineWidth = 1;
    this.context.setLineDash([2, 3]);
    this.context.beginPath();
    this.context.moveTo(left, y);
    this.context.lineTo(right, y);
    this.context.stroke();
    this.context.setLineDash([]);
  }

  /** The tokens of each pass, from its arrival to that of the next. */
  #texts(answer) {
    const byPosition = new Map(answer.tokens.map((token) => [token.position, token]));
    answer.passes.forEach((pass, i) => {
      const endS = answer.passes[i + 1]?.arrived_at_s ?? Math.max(this.view.nowS ?? 0, pass.arrived_at_s + 0.04);
      if (!this.#isSeen(pass.arrived_at_s, endS)) return;
      const tokens = pass.tokens.map((_, j) => byPosition.get(pass.start + j)).filter(Boolean);
      this.#tokens(tokens, this.#x(pass.arrived_at_s), this.#x(endS));
    });
  }

  #tokens(tokens, left, right) {
    this.context.font = `11px ${this.font}`;
    const wanted = tokens.map((token) => this.context.measureText(token.text.trim()).width + 8);
    const sum = wanted.reduce((a, b) => a + b, 0);
    const squeeze = Math.min(1, Math.max(right - left - 2, 1) / Math.max(sum, 1e-9));
    tokens.forEach((token, i) => {
      const width = wanted[i] * squeeze;
      const look = token.origin === "drafted" ? "committed" : "pass";
      this.#bar(left, this.textY, Math.max(width - 1, 1), this.textHeight, look, { token });
      this.#fitted(token.text, left, width, this.textY + this.textHeight / 2, look);
      left += width;
    });
  }

  // --- Strokes --------------------------------------------------------------------------------

  #bar(x, y, width, height, look, what) {
    const { context } = this;
    if (look === "flying") this.#outline(x, y, width, height, "faint");
    else {
      context.fillStyle = this.colours[look];
      context.strokeStyle = this.colours.page;
      context.lineWidth = 1;
      context.beginPath();
      context.roundRect(x, y, width, height, Math.min(2.5, width / 2, height / 2));
      context.fill();
      context.stroke();
    }
    if (isMarked(what, this.view.position)) this.#outline(x - 1, y - 1, width + 2, height + 2, "ink", 2);
    this.hits.push({ x, y, width, height, what });
  }

  #outline(x, y, width, height, colour, thickness = 1) {
    const { context } = this;
    context.strokeStyle = this.colours[colour];
    context.lineWidth = thickness;
    context.beginPath();
    context.roundRect(x + 0.5, y + 0.5, Math.max(width - 1, 0.5), Math.max(height - 1, 0.5), 2);
    context.stroke();
  }

  #fitted(said, left, width, y, look, size = 11) {
    const shown = said.trim() || (said.includes("\n") ? "⏎" : "");
    this.context.font = `${size}px ${this.font}`;
    if (!shown || this.context.measureText(shown).width > width - 3) return;
    this.#say(shown, left + width / 2, y, LETTERS_ON[look] ?? "on-colour", size);
  }

  #say(said, x, y, colour, size, align = "center") {
    const { context } = this;
    context.font = `${size}px ${this.font}`;
    context.fillStyle = this.colours[colour];
    context.textAlign = align;
    context.fillText(said, x, y);
  }
}

/** The same in words, for those who do not see it. */
export function timelineInWords(answer, roundTripS) {
  const sent = answer.nodes.length;
  if (!answer.passes.length) return "Timeline: nothing has been committed yet";
  const used = answer.nodes.filter((node) => node.fate === "committed").length;
  const taken = sent ? `, ${used} of ${sent} drafted nodes became text (${percent(used / sent)})` : "";
  return `Timeline: ${answer.drafts.length} runs of the drafter, ${answer.passes.length} passes of the verifier${taken}, round trip ${milliseconds(roundTripS)}`;
}

/** What a bar of the timeline is. */
export function barInWords(what, answer) {
  if (what.pass) {
    const { pass } = what;
    const guessed = pass.num_guessed ? `${pass.num_guessed} guessed by the verifier, ` : "";
    return `${pass.num_rows} rows, ${pass.num_accepted} drafts taken, ${guessed}${pass.tokens.length} committed; queue ${milliseconds(pass.queue_s)}, pass ${milliseconds(pass.pass_s)}`;
  }
  const { node } = what;
  return `“${visible(node.text)}” by ${node.proposer}, chance ${chance(node.chance)}: ${answer.fateOf(node)}`;
}

function isMarked(what, position) {
  const place = what.node?.position ?? what.token?.position;
  return position !== null && place === position;
}

/** For each run of the drafter the nodes that were hung after it and before the next. */
function nodesByDraft(answer) {
  const hung = answer.drafts.map(() => []);
  let run = -1;
  for (const node of answer.nodes.toSorted((a, b) => a.drafted_at_s - b.drafted_at_s)) {
    while (run + 1 < answer.drafts.length && answer.drafts[run + 1].ended_s <= node.drafted_at_s) run += 1;
    if (run >= 0) hung[run].push(node);
  }
  return hung;
}

/** Nodes that travelled together. */
function messages(answer) {
  return [...Map.groupBy(answer.nodes, (node) => node.sent_at_s).values()];
}

function bestFate(fates) {
  return Object.keys(LOOKS).find((fate) => fates.includes(fate));
}

function roundStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((times) => times * power).find((step) => step >= least);
}

function axisLabel(ms, step) {
  return step >= 1000 || ms >= 10000 ? `${+(ms / 1e3).toFixed(2)} s` : `${+ms.toFixed(1)} ms`;
}
