// One answer as its stream tells it: tokens, draft nodes, passes, and the figures made of them.
// All times are seconds since the generation began. Pure: knows neither page nor network.

const STEADY_STEPS = 3; // so many plain steps are enough to say how long one takes

export class Answer {
  constructor(request) {
    this.request = request; // what was asked for
    this.tokens = [];
    this.unverified = []; // what the drafter wrote alone behind them, as long as it may be right
    this.nodes = [];
    this.drafts = [];
    this.passes = [];
    this.text = ""; // as the API's own pieces spell it
    this.openedS = null;
    this.finishReason = null;
    this.seed = request.seed ?? null;
    this.lossyMode = null; // the name of the acceptance mode, where the text is not the target's own
    this.problem = null; // why it ended early, as a sentence
    this.isOver = false;
    this.ahead = Infinity; // the page's clock minus the generation's
    this.live = new Map(); // nodes of the session by id
    this.byPosition = new Map();
    this.measured = null; // another answer to the same prompt, by the other policy
  }

  /** Take a piece of the stream, which came at some time of the page's clock. */
  take(piece, nowS) {
    const choice = piece.choices[0];
    this.#correct(piece.outrider?.correction);
    this.text += choice?.delta?.content ?? "";
    this.finishReason = choice?.finish_reason ?? this.finishReason;
    this.seed = piece.outrider?.seed ?? this.seed;
    if (piece.outrider?.is_lossless === false) this.lossyMode = piece.outrider.acceptance_mode;
    const events = piece.outrider?.events ?? [];
    for (const event of events) this.#note(event, nowS);
  }

  /** Text that no verifier had seen was wrong from a character on, counted as Unicode counts. */
  #correct(correction) {
    if (!correction) return;
    this.text = [...this.text].slice(0, correction.from_character).join("") + correction.text;
  }

  end(problem = null) {
    this.problem = problem;
    this.isOver = true;
  }

  #note(event, nowS) {
    const at = momentOf(event);
    if (at !== null) this.ahead = Math.min(this.ahead, nowS - at);
    switch (event.kind) {
      case "opened":
        this.openedS ??= event.at_s;
        this.live.clear();
        break;
      case "draft":
        this.drafts.push(event);
        break;
      case "node":
        this.#hang({ ...event, fate: null, decided_at_s: null });
        break;
      case "fate":
        Object.assign(this.live.get(event.node_id) ?? {}, event);
        break;
      case "pass":
        this.passes.push({ ...event, index: this.passes.length });
        break;
      case "token":
        this.tokens.push(event);
        this.#settle(event);
        break;
      case "unverified":
        this.unverified.push({ ...event, origin: "unverified" });
        break;
    }
  }

  /** A token is verified: the drafter wrote the same, or all that it wrote behind is void. */
  #settle(token) {
    const [first, ...rest] = this.unverified;
    const isSame = first?.token === token.token && first.position === token.position;
    this.unverified = isSame ? rest : [];
  }

  #hang(node) {
    node.parent = this.live.get(node.parent_id) ?? null;
    this.nodes.push(node);
    this.live.set(node.node_id, node);
    if (!this.byPosition.has(node.position)) this.byPosition.set(node.position, []);
    this.byPosition.get(node.position).push(node);
  }

  /** What became of a node, also while nobody knows. */
  fateOf(node) {
    return node.fate ?? (this.isOver ? "never judged" : "under way");
  }

  /** The node that became a token; undefined if none did. */
  nodeOf(token) {
    return this.#at(token.position).find((node) => node.fate === "committed");
  }

  /** What else was drafted for a token's place, after the text that stands before it. */
  alternatives(token) {
    return this.#at(token.position).filter(
      (node) => node.fate !== "committed" && this.fateOf(node) !== "never judged",
    );
  }

  /** How many guesses for a token's place hung from wrong ones. */
  numBeside(token) {
    return this.#at(token.position).filter((node) => this.fateOf(node) === "never judged").length;
  }

  passOf(token) {
    return this.passes[token.pass_index];
  }

  #at(position) {
    return this.byPosition.get(position) ?? [];
  }

  // --- Figures: null where nothing can be said yet --------------------------------------------

  get firstTokenS() {
    return this.tokens[0]?.committed_at_s ?? null;
  }

  get lastTokenS() {
    return this.tokens.at(-1)?.committed_at_s ?? null;
  }

  /** Tokens a second after the first pass, which waits for the prompt. */
  get tokensPerS() {
    const later = this.tokens.filter((token) => token.committed_at_s > this.firstTokenS);
    return later.length ? later.length / (this.lastTokenS - this.firstTokenS) : null;
  }

  count(origin) {
    if (origin === "unverified") return this.unverified.length;
    return this.tokens.filter((token) => token.origin === origin).length;
  }

  /** How often the target agreed where there was a draft. */
  get acceptance() {
    const judged = this.count("drafted") + this.count("corrected");
    return judged ? this.count("drafted") / judged : null;
  }

  get tokensPerPass() {
    return this.passes.length ? this.tokens.length / this.passes.length : null;
  }

  /** There and back: no more than any node needed that was there in time. */
  roundTripS(estimateS) {
    const passS = new Map(this.passes.map((pass) => [pass.arrived_at_s, pass.pass_s]));
    const bounds = this.nodes
      .filter((node) => node.fate === "committed" && passS.has(node.decided_at_s))
      .map((node) => Math.max(node.decided_at_s - passS.get(node.decided_at_s) - node.sent_at_s, 0));
    return Math.min(estimateS ?? this.openedS ?? 0, ...bounds);
  }

  /** How long the cloud alone takes for a token, by the passes that computed one; null: unknown. */
  get plainStepS() {
    const steps = this.passes.slice(1).filter((pass) => pass.num_rows === 1);
    if (steps.length < STEADY_STEPS) return null;
    return median(steps.map((pass) => pass.pass_s + pass.queue_s));
  }

  get endedS() {
    const ends = [this.openedS ?? 0, this.lastTokenS ?? 0];
    return Math.max(...ends, this.drafts.at(-1)?.ended_s ?? 0, this.nodes.at(-1)?.sent_at_s ?? 0);
  }
}

/** How much faster one answer came than another, after the first token of each. */
export function speedUp(ours, theirs) {
  return ours.tokensPerS && theirs.tokensPerS ? ours.tokensPerS / theirs.tokensPerS : null;
}

function momentOf(event) {
  const key = { opened: "at_s", draft: "ended_s", pass: "arrived_at_s", node: "sent_at_s" }[event.kind];
  return key ? event[key] : null;
}

function median(numbers) {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];
}
