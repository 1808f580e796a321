// How numbers and names are written for people. Pure.

export const ORIGINS = {
  drafted: "Drafted at the edge, and the target agreed.",
  guessed: "No draft was there in time; the verifier had guessed it itself.",
  corrected: "Drafts were there for this place, but the target chose another token.",
  hedged: "No draft was there for this place; the verifier decoded it itself.",
  unverified: "Written on this device alone while no verifier is there; it may be corrected.",
};

export const POLICIES = {
  auto: "drafts where it pays; the verifier guesses, too",
  tree: "streams a tree of drafts without end",
  chain: "streams one chain of drafts without end",
  "one-ahead": "drafts a block while another is verified",
  "stop-and-wait": "drafts a block, and waits for its verdict",
  cloud: "everything is left to the verifier: the cloud alone",
  "cloud-lookup": "the cloud alone, with guesses of its own",
};

export function milliseconds(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const ms = seconds * 1e3;
  return `${ms >= 100 ? ms.toFixed(0) : ms.toFixed(1)} ms`;
}

/** An estimate, so not finer than it is. */
export function roundTrip(seconds) {
  if (seconds === null || seconds === undefined) return null;
  return seconds < 1e-3 ? "below 1 ms" : milliseconds(seconds);
}

export function duration(seconds) {
  if (seconds === null) return "–";
  return seconds < 1 ? milliseconds(seconds) : `${seconds.toFixed(2)} s`;
}

export function percent(share) {
  return `${Math.round(share * 100)} %`;
}

/** Not rounded up to certainty. */
export function chance(share) {
  return share > 0.99 && share < 1 ? "above 0.99" : share.toFixed(2);
}

/** A token's text on one line: what cannot be seen is named. */
export function visible(text) {
  if (text === "") return "(no text of its own)";
  return text.replaceAll("\n", "⏎").replaceAll("\t", "⇥").replace(/^ | $/g, "␣");
}

export function counted(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
