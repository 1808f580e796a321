// The form below the conversation: what is asked, and how.

import { byId } from "./dom.js";
import { POLICIES } from "./words.js";

export class Composer {
  /** @param on {send, stop}: called with a text, and without anything */
  constructor(on) {
    this.message = byId("message");
    this.form = byId("composer");
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit(on.send);
    });
    this.message.addEventListener("keydown", (event) => this.#key(event));
    this.message.addEventListener("input", () => this.#fit());
    byId("stop").addEventListener("click", () => {
      on.stop();
      this.message.focus();
    });
    byId("policy").addEventListener("change", () => this.#hint());
  }

  #submit(send) {
    const text = this.message.value.trim();
    if (!text || this.isBusy || !this.form.reportValidity()) return;
    this.message.value = "";
    this.#fit();
    send(text);
    this.message.focus(); // the button that had the focus may be gone
  }

  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.form.requestSubmit();
  }

  /** As high as what is written. */
  #fit() {
    this.message.style.setProperty("height", "auto");
    this.message.style.setProperty("height", `${this.message.scrollHeight + 2}px`);
  }

  /** Offer these policies, the daemon's own first of all chosen. */
  offer(policies, own) {
    const select = byId("policy");
    const known = [...select.options].map((option) => option.value);
    if (policies.join() === known.join()) return;
    const chosen = policies.includes(select.value) ? select.value : own;
    select.replaceChildren(...policies.map((name) => new Option(name, name, name === own, name === chosen)));
    this.#hint();
  }

  /** Say what holds for fields that are left empty. */
  tellDefaults({ temperature, max_tokens: maxTokens }) {
    byId("temperature").placeholder = String(temperature);
    byId("max-tokens").placeholder = String(maxTokens);
  }

  #hint() {
    byId("policy-hint").textContent = POLICIES[byId("policy").value] ?? "";
  }

  /** What the fields say; those that are empty are left to the daemon. */
  get choices() {
    const number = (id) => (byId(id).value === "" ? undefined : Number(byId(id).value));
    return {
      policy: byId("policy").value || undefined,
      temperature: number("temperature"),
      max_tokens: number("max-tokens"),
      seed: number("seed"),
    };
  }

  set isBusy(isBusy) {
    this.busy = isBusy;
    byId("send").hidden = isBusy;
    byId("stop").hidden = !isBusy;
    document.body.classList.toggle("busy", isBusy);
  }

  get isBusy() {
    return this.busy ?? false;
  }
}
