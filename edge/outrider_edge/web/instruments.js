// The instruments: figures, origins and the timeline of the answer that is selected.

import { speedUp } from "./answer.js";
import { byId } from "./dom.js";
import { Timeline, timelineInWords } from "./timeline.js";
import { milliseconds, ORIGINS, percent, roundTrip } from "./words.js";

const FIRST_LENGTH_S = 0.8;
const SHORTEST_S = 0.02;
const FRAME_MS = 33;
const LEAP = 0.75; // of the view, where motion shall be reduced

export class Instruments {
  constructor() {
    this.timeline = new Timeline(byId("timeline"));
    this.answer = null;
    this.estimates = {};
    this.lengthS = FIRST_LENGTH_S;
    this.beginS = 0;
    this.follows = true;
    this.position = null; // the place that is marked
    this.isStill = matchMedia("(prefers-reduced-motion: reduce)");
    this.#listen();
  }

  show(answer) {
    this.answer = answer;
    this.follows = true;
    this.beginS = 0;
    this.refresh();
  }

  /** What the daemon estimates; used while the answer itself says too little. */
  take(estimates) {
    this.estimates = estimates ?? {};
    if (!this.isRunning) this.refresh();
  }

  mark(position) {
    if (this.position === position) return;
    this.position = position;
    this.#reveal();
    this.refresh();
  }

  refresh() {
    this.#tellFigures();
    this.#draw();
    if (this.isRunning) this.#tick();
  }

  get isRunning() {
    return this.answer !== null && !this.answer.isOver;
  }

  get #nowS() {
    if (!this.isRunning || this.answer.ahead === Infinity) return null;
    return performance.now() / 1e3 - this.answer.ahead;
  }

  get #endS() {
    return Math.max(this.#nowS ?? 0, this.answer?.endedS ?? 0);
  }

  get #roundTripS() {
    return this.answer.roundTripS(this.estimates.round_trip_s);
  }

  // --- Figures --------------------------------------------------------------------------------

  #tellFigures() {
    const { answer } = this;
    const put = (id, value, unit = "") => {
      byId(id).replaceChildren(value ?? "–");
      if (value && unit) byId(id).append(unitOf(unit));
    };
    put("figure-speed", answer?.tokensPerS?.toFixed(1), "tokens/s");
    const { ratio, way } = this.#ratio();
    put("figure-ratio", ratio && `${ratio.toFixed(2)}×`, way);
    put("figure-acceptance", answer && answer.acceptance !== null ? percent(answer.acceptance) : null);
    put("figure-per-pass", answer?.tokensPerPass?.toFixed(2));
    put("figure-round-trip", answer && roundTrip(this.estimates.round_trip_s ?? answer.openedS));
    put("figure-first", answer?.firstTokenS != null ? milliseconds(answer.firstTokenS) : null);
    for (const origin of Object.keys(ORIGINS)) {
      document.querySelector(`[data-count="${origin}"]`).textContent = String(answer?.count(origin) ?? 0);
    }
  }

  /** How much faster than the cloud alone: measured where that was done, else by estimate. */
  #ratio() {
    const { answer } = this;
    if (!answer?.tokensPerS) return { ratio: null, way: "" };
    const cloud = answer.measured;
    if (cloud?.isOver && cloud.request.policy === "cloud" && !cloud.problem) {
      return { ratio: speedUp(answer, cloud), way: "measured" };
    }
    const stepS = answer.plainStepS ?? this.#estimatedStepS;
    return { ratio: stepS ? answer.tokensPerS * stepS : null, way: "estimated" };
  }

  get #estimatedStepS() {
    const { plain_pass_s: passS, queue_s: queueS } = this.estimates;
    return passS ? passS + (queueS ?? 0) : null;
  }

  // --- The timeline ---------------------------------------------------------------------------

  #tick() {
    if (this.frame) return;
    this.frame = setTimeout(() => {
      this.frame = null;
      requestAnimationFrame(() => this.refresh());
    }, FRAME_MS);
  }

  #draw() {
    if (this.answer && this.follows) this.#follow();
    const roundTripS = this.answer ? this.#roundTripS : 0;
    const { beginS, lengthS, position } = this;
    this.timeline.draw(this.answer, { beginS, lengthS, position, roundTripS, nowS: this.#nowS });
    this.#tellRange();
    if (this.answer && !this.isRunning) byId("timeline").setAttribute("aria-label", timelineInWords(this.answer, roundTripS));
  }

  /** Keep the latest in sight; where motion shall be reduced, leaf instead of gliding. */
  #follow() {
    const latest = Math.max(this.#endS - 0.96 * this.lengthS, 0);
    const isOut = this.#endS > this.beginS + this.lengthS;
    if (!this.isStill.matches || !this.isRunning) this.beginS = latest;
    else if (isOut) this.beginS = Math.max(this.#endS - (1 - LEAP) * this.lengthS, 0);
  }

  #tellRange() {
    const range = byId("time");
    const last = this.answer ? Math.max(this.#endS - 0.96 * this.lengthS, 0) : 0;
    range.max = String(last);
    range.disabled = last === 0;
    range.value = String(this.beginS);
    range.setAttribute("aria-valuetext", `from ${milliseconds(this.beginS)} on`);
  }

  /** Bring the marked token into sight, unless the answer is being written. */
  #reveal() {
    const token = this.answer?.tokens.find((one) => one.position === this.position);
    if (!token || this.isRunning) return;
    const since = this.answer.nodeOf(token)?.drafted_at_s ?? token.committed_at_s;
    const isSeen = since > this.beginS && token.committed_at_s < this.beginS + this.lengthS;
    if (!isSeen) this.#moveTo(since - 0.3 * this.lengthS);
  }

  #moveTo(seconds) {
    const last = Math.max(this.#endS - 0.96 * this.lengthS, 0);
    this.beginS = Math.min(Math.max(seconds, 0), last);
    this.follows = this.beginS >= last;
  }

  #zoom(factor, anchor = 0.5) {
    const middle = this.beginS + anchor * this.lengthS;
    const longest = Math.max(this.#endS * 1.05, FIRST_LENGTH_S);
    this.lengthS = Math.min(Math.max(this.lengthS * factor, SHORTEST_S), longest);
    if (!this.follows) this.#moveTo(middle - anchor * this.lengthS);
    this.refresh();
  }

  #listen() {
    byId("zoom-in").addEventListener("click", () => this.#zoom(0.6));
    byId("zoom-out").addEventListener("click", () => this.#zoom(1 / 0.6));
    byId("zoom-all").addEventListener("click", () => this.#zoom(Infinity));
    byId("time").addEventListener("input", (event) => {
      this.#moveTo(Number(event.target.value));
      this.refresh();
    });
    this.#listenToPointer(byId("timeline"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.timeline.readColours();
      this.refresh();
    });
    new ResizeObserver(() => this.refresh()).observe(byId("timeline"));
  }

  /** Drag to move, wheel with Ctrl to zoom. */
  #listenToPointer(canvas) {
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.dragged = { x: event.clientX, beginS: this.beginS };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.dragged || !this.answer) return;
      const seconds = ((event.clientX - this.dragged.x) / this.timeline.plotWidth) * this.lengthS;
      this.#moveTo(this.dragged.beginS - seconds);
      this.refresh();
    });
    for (const type of ["pointerup", "pointercancel"]) canvas.addEventListener(type, () => (this.dragged = null));
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  #wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const anchor = (event.offsetX - this.timeline.gutter) / this.timeline.plotWidth;
    this.#zoom(Math.exp(event.deltaY / 300), Math.min(Math.max(anchor, 0), 1));
  }
}

function unitOf(text) {
  const unit = document.createElement("span");
  unit.textContent = ` ${text}`;
  return unit;
}
