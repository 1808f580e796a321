// The page: connects the conversation, the composer and the instruments to the daemon.

import { Answer } from "./answer.js";
import { isWhole, otherPolicy, TurnView } from "./answer_view.js";
import { ApiError, chat, daemonStatus, trouble, UNREACHABLE } from "./api.js";
import { Card } from "./card.js";
import { Composer } from "./composer.js";
import { byId } from "./dom.js";
import { Instruments } from "./instruments.js";
import { counted, duration } from "./words.js";

const STATUS_MS = 2000;
const NEAR_END_PX = 80;
const TOP_LOGPROBS = 5;

class Page {
  constructor() {
    this.turns = [];
    this.model = null;
    this.running = null; // aborts what is being written
    this.instruments = new Instruments();
    this.card = new Card();
    this.composer = new Composer({ send: (text) => this.send(text), stop: () => this.stop() });
    this.conversation = byId("conversation");
    this.#listen();
    this.#watchDaemon();
  }

  // --- Answers --------------------------------------------------------------------------------

  send(question) {
    const view = new TurnView(question, {
      retry: (turn) => this.answer(turn),
      compare: (turn) => this.compare(turn),
    });
    view.choices = this.composer.choices;
    this.turns.push(view);
    byId("turns").append(view.root);
    byId("welcome").hidden = true;
    this.answer(view);
  }

  /** Write the answer of a turn, or write it again. */
  async answer(view) {
    if (this.running) return;
    const answer = new Answer(this.#request(view, view.choices));
    view.begin(answer);
    this.select(view);
    this.conversation.scrollTop = this.conversation.scrollHeight;
    await this.#write(answer, () => this.#atTheEnd(() => view.grow()));
    this.#atTheEnd(() => view.finish());
    if (this.instruments.answer === answer) this.instruments.refresh();
    announce(answer.problem ?? `The answer has ended: ${counted(answer.tokens.length, "token")} in ${duration(answer.lastTokenS ?? 0)}`);
  }

  /** Have the same prompt answered under the other policy, and show both. */
  async compare(view) {
    if (this.running || !isWhole(view.answer)) return;
    const ours = view.answer;
    const theirs = new Answer({ ...ours.request, seed: ours.seed ?? undefined, policy: otherPolicy(ours) });
    ours.measured = theirs;
    this.select(view);
    const show = () => view.answer === ours && this.#atTheEnd(() => view.finish());
    show();
    await this.#write(theirs, show);
    show();
    this.instruments.refresh();
  }

  /** Fill an answer from the daemon; whatever ends it, what was written stays. */
  async #write(answer, onGrown) {
    this.running = new AbortController();
    this.composer.isBusy = true;
    const { signal } = this.running;
    try {
      const model = await this.#theModel();
      for await (const piece of chat(bodyOf(answer.request, model), signal)) {
        answer.take(piece, performance.now() / 1e3);
        if (!signal.aborted) onGrown();
      }
      answer.end();
    } catch (error) {
      if (signal.aborted) answer.finishReason = "stopped";
      answer.end(signal.aborted ? null : problemOf(error));
      this.isDoubtful = !signal.aborted;
      this.#askDaemon();
    } finally {
      if (this.running?.signal === signal) {
        this.running = null;
        this.composer.isBusy = false;
      }
    }
  }

  stop() {
    this.running?.abort();
  }

  newChat() {
    this.stop();
    this.running = null;
    this.composer.isBusy = false;
    this.turns = [];
    byId("turns").replaceChildren();
    byId("welcome").hidden = false;
    this.instruments.show(null);
    this.card.hide();
    this.composer.message.focus();
  }

  /** What is asked: this turn after those before it that were answered. */
  #request(view, choices) {
    const before = this.turns.slice(0, this.turns.indexOf(view)).filter((turn) => turn.answer?.text);
    const messages = before.flatMap((turn) => [
      { role: "user", content: turn.question },
      { role: "assistant", content: turn.answer.text },
    ]);
    return { ...choices, messages: [...messages, { role: "user", content: view.question }] };
  }

  // --- What is shown --------------------------------------------------------------------------

  select(view) {
    for (const turn of this.turns) turn.select(turn === view && this.turns.length > 1);
    if (this.instruments.answer !== view.answer) this.instruments.show(view.answer);
  }

  /** Show something more; who reads the end of the conversation stays there. */
  #atTheEnd(show) {
    const { scrollTop, scrollHeight, clientHeight } = this.conversation;
    const isThere = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    show();
    if (isThere) this.conversation.scrollTop = this.conversation.scrollHeight;
  }

  #turnOf(element) {
    return this.turns.find((turn) => turn.root.contains(element));
  }

  #point(span) {
    const view = this.#turnOf(span);
    if (!view?.answer) return;
    this.pointed?.classList.remove("shown");
    this.pointed = span;
    span.classList.add("shown");
    this.select(view);
    this.instruments.mark(span.token.position);
    this.card.showToken(span.token, view.answer, span.getClientRects()[0] ?? span.getBoundingClientRect());
  }

  #unpoint() {
    this.pointed?.classList.remove("shown");
    this.pointed = null;
    this.instruments.mark(null);
    this.card.hide();
  }

  // --- What the user does ---------------------------------------------------------------------

  #listen() {
    byId("new-chat").addEventListener("click", () => this.newChat());
    byId("shade").addEventListener("change", (event) => document.body.classList.toggle("shaded", event.target.checked));
    byId("toggle-instruments").addEventListener("click", (event) => {
      const isFolded = byId("instruments").classList.toggle("folded");
      event.target.setAttribute("aria-expanded", String(!isFolded));
    });
    for (const sample of byId("samples").querySelectorAll("button")) {
      sample.addEventListener("click", () => !this.running && this.send(sample.textContent));
    }
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.#escape());
    this.#listenToTokens(byId("turns"));
    this.#listenToTimeline(byId("timeline"));
  }

  #escape() {
    if (this.pointed) this.#unpoint();
    else this.stop();
  }

  #listenToTokens(turns) {
    const tokenAt = (event) => event.target.closest?.(".text .token[tabindex]");
    turns.addEventListener("pointerover", (event) => tokenAt(event) && this.#point(tokenAt(event)));
    turns.addEventListener("pointerout", (event) => tokenAt(event) && event.pointerType === "mouse" && this.#unpoint());
    turns.addEventListener("click", (event) => tokenAt(event)?.focus({ preventScroll: true }));
    turns.addEventListener("focusin", (event) => tokenAt(event) && this.#point(tokenAt(event)));
    turns.addEventListener("focusout", () => this.#unpoint());
    turns.addEventListener("keydown", (event) => this.#walk(event));
    this.conversation.addEventListener("scroll", () => this.pointed !== document.activeElement && this.#unpoint());
  }

  /** Arrow keys walk the tokens of the answer that has the focus. */
  #walk(event) {
    const text = event.target.closest?.(".text");
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!text || !step) return;
    event.preventDefault();
    const from = event.target === text ? null : event.target;
    const next = this.#turnOf(text)?.neighbour(from, step);
    next?.setAttribute("aria-describedby", "card");
    next?.focus({ preventScroll: false });
  }

  #listenToTimeline(canvas) {
    canvas.addEventListener("pointermove", (event) => this.#pointAtBar(event, canvas));
    canvas.addEventListener("pointerleave", () => this.#unpoint());
  }

  #pointAtBar(event, canvas) {
    const { answer, timeline } = this.instruments;
    const what = answer && timeline.at(event.offsetX, event.offsetY);
    if (!what) return this.#unpoint();
    const { left, top } = canvas.getBoundingClientRect();
    const x = left + event.offsetX;
    const place = { left: x, top: top + event.offsetY - 8, bottom: top + event.offsetY + 8 };
    this.instruments.position = what.token?.position ?? what.node?.position ?? null;
    this.instruments.refresh();
    if (what.token) this.card.showToken(what.token, answer, place);
    else this.card.showBar(what, answer, place);
  }

  // --- The daemon -----------------------------------------------------------------------------

  async #watchDaemon() {
    for (;;) {
      if (!document.hidden) await this.#askDaemon();
      await new Promise((done) => setTimeout(done, STATUS_MS));
    }
  }

  async #askDaemon() {
    const status = await daemonStatus();
    if (!status) return this.#say("away", UNREACHABLE);
    this.model = status.model;
    this.waitingFor = status.waiting_for;
    await this.#tellState(status);
    this.instruments.take(status.estimates);
    if (status.model) {
      this.composer.offer(status.policies, status.policy);
      this.composer.tellDefaults(status.defaults);
      this.#tellPair(status);
    }
  }

  /** The verifier is asked only while there is reason to think that it is away. */
  async #tellState({ state, waiting_for: waitingFor }) {
    const problem = this.isDoubtful && state === "ready" ? await trouble() : waitingFor;
    this.isDoubtful &&= problem !== null;
    this.#say(problem ? "waiting" : state, problem ?? state);
  }

  async #theModel() {
    if (!this.model) await this.#askDaemon();
    if (!this.model) throw new ApiError(this.waitingFor ?? UNREACHABLE);
    return this.model;
  }

  #tellPair(status) {
    const parts = [boldly(status.model)];
    if (status.policies.includes("auto")) parts.push(" drafted by ", boldly(status.bundle));
    byId("pair").replaceChildren(...parts);
  }

  #say(state, sentence) {
    byId("state").dataset.state = state;
    if (byId("state-text").textContent !== sentence) byId("state-text").textContent = sentence;
    byId("state").title = sentence;
  }
}

function bodyOf({ policy, ...request }, model) {
  const asked = { ...request, model, logprobs: true, top_logprobs: TOP_LOGPROBS };
  return { ...asked, outrider: { trace: true, corrections: true, ...(policy ? { policy } : {}) } };
}

function problemOf(error) {
  if (error instanceof ApiError) return error.message;
  console.error(error);
  return "This page failed to read the answer; the browser's console says more.";
}

function announce(sentence) {
  byId("announcer").textContent = sentence;
}

function boldly(text) {
  const bold = document.createElement("b");
  bold.textContent = text;
  return bold;
}

new Page();
